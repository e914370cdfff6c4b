"""ELF files as far as ld.so reads them before it runs anything: what they need, and nothing but FormatError."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats import elf
from narfs.formats.elf import FileSpan, Needs, needs_of, reading
from tests.support.elf import elf_file

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
LAYOUTS = [(True, "<"), (True, ">"), (False, "<"), (False, ">")]


def real_files() -> list[Path]:
    """Programs and libraries of this machine: its Python, all that maps, and a part of the rest."""
    folders = (Path("/usr/bin"), Path("/usr/lib/x86_64-linux-gnu"))
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())[::8]]
    files.append(Path(sys.executable).resolve())
    return [file for file in files if file.is_file() and can_be_loaded(file)]


def can_be_loaded(file: Path) -> bool:
    with file.open("rb") as opened:
        header = opened.read(18)
    return header.startswith(elf.MAGIC) and header[16] in (2, 3)  # not an object file


@given(st.sampled_from(LAYOUTS), st.lists(NAMES, unique=True), NAMES, st.integers(0, 5000))
def test_what_a_file_needs_is_what_was_written_into_it(
    layout: tuple[bool, str], needed: list[bytes], interpreter: bytes, padding: int
) -> None:
    wide, order = layout
    data = elf_file(interpreter=interpreter, needed=needed, wide=wide, order=order, padding=padding)
    needs = needs_of(data)
    assert (needs.interpreter, needs.libraries) == (interpreter, tuple(needed))
    assert needs.mapped[0].start + needs.mapped[0].length == len(data)
    assert needs.mapped[0].start >= padding


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_runpath_makes_the_rpath_void_as_it_does_for_ld_so(layout: tuple[bool, str]) -> None:
    wide, order = layout
    both = needs_of(elf_file(runpath=b"/a/lib:/b/lib", rpath=b"/c/lib", wide=wide, order=order))
    assert (both.runpath, both.rpath) == ((b"/a/lib", b"/b/lib"), ())
    old = needs_of(elf_file(rpath=b"/c/lib::$ORIGIN", wide=wide, order=order))
    assert (old.runpath, old.rpath) == ((), (b"/c/lib", b"$ORIGIN"))


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed (package binutils)")
def test_readelf_says_the_same_of_the_files_of_this_machine() -> None:
    files = real_files()
    assert len(files) > 20, "this machine has no programs to look at"
    for file in files:
        told = subprocess.run(("readelf", "-dlW", file), capture_output=True, check=True).stdout
        needs = needs_of(file.read_bytes())
        assert list(needs.libraries) == re.findall(rb"\(NEEDED\).*\[(.*)\]", told), file
        assert [needs.interpreter] == (re.findall(rb"interpreter: (.*)\]", told) or [None]), file
        assert [b":".join(needs.runpath)] == (re.findall(rb"\(RUNPATH\).*\[(.*)\]", told) or [b""]), file
        assert len(needs.mapped) == len(re.findall(rb"LOAD .* R(?:W |  ) ", told)), file


def test_no_more_is_asked_for_than_what_is_needed() -> None:
    data = elf_file(interpreter=b"/lib/ld.so", needed=[b"libc.so.6"], padding=100_000)
    parser = reading(len(data))
    asked, spans = 0, next(parser)
    with suppress(StopIteration):
        while True:
            asked += sum(span.length for span in spans)
            spans = parser.send([data[start : start + length] for start, length in spans])
    assert asked < 1000


@given(st.binary(max_size=400))
@example(b"\x7fELF")
@example(b"\x7fELF\x02\x01" + bytes(58))
@example(b"\x7fELF" + b"\xff" * 60)
def test_any_bytes_are_needs_or_a_format_error(data: bytes) -> None:
    expect_needs_or_format_error(data)


@given(st.sampled_from(LAYOUTS), st.data())
def test_a_changed_file_is_needs_or_a_format_error(layout: tuple[bool, str], data: st.DataObject) -> None:
    wide, order = layout
    file = bytearray(elf_file(interpreter=b"/lib/ld.so", needed=[b"liba.so", b"b"], wide=wide, order=order))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    expect_needs_or_format_error(bytes(file[: data.draw(st.integers(0, len(file)))]))


def expect_needs_or_format_error(data: bytes) -> None:
    try:
        needs = needs_of(data)
    except FormatError:
        return
    assert isinstance(needs, Needs)
    assert all(0 <= start <= start + length <= len(data) for start, length in needs.mapped)


def test_a_file_that_claims_to_be_huge_is_asked_for_in_bounds() -> None:
    size = 2**62
    header = bytearray(elf_file(needed=[b"libc.so.6"])[: elf.HEADER_BYTES])
    header[56:58] = b"\xff\xff"  # program headers
    parser = reading(size)
    next(parser)
    (table,) = parser.send([bytes(header)])
    assert table == FileSpan(table.start, elf.MOST_PROGRAM_HEADERS * 56)
    huge = bytes.fromhex("02000000060000000000000000000000").ljust(32, b"\0") + (2**60).to_bytes(8, "little")
    spans = parser.send([huge.ljust(56, b"\0")])
    assert [span.length for span in spans] == [0, elf.MOST_DYNAMIC_BYTES]
    needed = (1).to_bytes(8, "little") + bytes(8)
    strings = parser.send([b"", needed * 4096])
    assert len(strings) == elf.MOST_LIBRARIES + 2
