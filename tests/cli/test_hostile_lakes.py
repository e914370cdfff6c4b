"""A store that has the right narinfos and whatever it likes for the rest: refused within bounds of time and memory."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import brotli  # type: ignore[import-untyped]  # ships no annotations
import lz4.frame
import pytest
import zstandard

from narfs.formats.digest import Hash
from narfs.formats.seal import index_name
from tests.cli.program import needs_fuse
from tests.support.lakes import Recipe
from tests.support.sealing import add_sealed, index_file
from tests.support.trees import File, string, strings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.cli.program import Program
    from tests.support.lakes import Member
    from tests.support.trees import Tree

pytestmark = [pytest.mark.mount, needs_fuse]

NAR_SIZE = 1 << 20
MEBIBYTE = bytes(1 << 20)
GIBIBYTE = 1024
"""Times MEBIBYTE."""

MOST_SECONDS = 10.0
"""Of a processor."""
MOST_MEGABYTES = 200
"""Of the daemon, and of each worker: narfs itself has 70, and pieces, tails and windows come on top."""

HEADER = strings(b"nix-archive-1", b"(", b"type", b"regular", b"contents") + (NAR_SIZE - 200).to_bytes(8, "little")


def deep(levels: int) -> bytes:
    return (
        string(b"nix-archive-1") + strings(b"(", b"type", b"directory", b"entry", b"(", b"name", b"a", b"node") * levels
    )


def many(names: int) -> bytes:
    """A directory of empty files as small as they can be, in a NAR that ends in the middle of it."""
    entries = (
        strings(b"entry", b"(", b"name", b"%08x" % number, b"node")
        + strings(b"(", b"type", b"regular", b"contents", b"", b")", b")")
        for number in range(names)
    )
    return strings(b"nix-archive-1", b"(", b"type", b"directory") + b"".join(entries)


def bombs() -> Mapping[str, tuple[str, bytes]]:
    """Blobs that begin as what they should be, and go on for a gibibyte."""
    zstd = zstandard.ZstdCompressor(level=1)
    return {
        "zstd": ("zstd", zstd.compress(HEADER) + zstd.compress(MEBIBYTE) * GIBIBYTE),
        "zstd in one frame": ("zstd", zstd.compress(HEADER + MEBIBYTE * 256)),
        "xz": ("xz", lzma.compress(HEADER, preset=0) + lzma.compress(MEBIBYTE, preset=0) * GIBIBYTE),
        "bzip2": ("bzip2", bz2.compress(HEADER) + bz2.compress(MEBIBYTE) * GIBIBYTE),
        "gzip": ("gzip", gzip.compress(HEADER) + gzip.compress(MEBIBYTE) * GIBIBYTE),
        "br": ("br", brotli.compress(HEADER + MEBIBYTE * 256, quality=1)),
        "lz4": ("lz4", lz4.frame.compress(HEADER) + lz4.frame.compress(MEBIBYTE * 16) * 64),
    }


def lies() -> Mapping[str, tuple[str, bytes]]:
    zstd = zstandard.ZstdCompressor(level=1)
    largest = (2**64 - 1).to_bytes(8, "little")
    return {
        "a file as large as can be said": ("none", HEADER[:-8] + largest),
        "a name as long as can be said": ("none", deep(1)[:-40] + largest),
        "directories in directories": ("zstd", zstd.compress(deep(100_000))),
        "as many files as there is room for": ("zstd", zstd.compress(many(6000))),
        "a window of 2 GiB": ("zstd", b"\x28\xb5\x2f\xfd\x00\xa8" + b"\1\0\0" * 10),
        "a content size of 2**62": ("zstd", struct.pack("<IBQ", 0xFD2FB528, 0xE0, 2**62) + b"\x02\0\x10\0" * 100),
        "empty frames without end": ("zstd", zstd.compress(b"") * 400_000),
        "an xz dictionary of 4 GiB": ("xz", b"\xfd7zXZ\0\0\4\xe6\xd6\xb4\x46\2\0\x21\1\x28\0\0\0" + bytes(64)),
        "nothing": ("xz", b""),
        "a page of HTML": ("none", b"<html>" * 9000),
    }


def put(program: Program, name: str, compression: str, blob: bytes) -> Member:
    """Add a path of NAR_SIZE whose blob is that."""
    member = program.lake.add_nar(name, (HEADER + name.encode()).ljust(NAR_SIZE, b"\0"), Recipe(listing=False))
    digest = hashlib.sha256(blob).digest()
    (program.lake.directory / f"nar/{name}").write_bytes(blob)
    narinfo = replace(
        member.narinfo,
        url=f"nar/{name}",
        compression=compression,
        file_size=len(blob) or 1,
        file_hash=Hash("sha256", digest),
    )
    program.lake.put(narinfo)
    return replace(member, narinfo=narinfo)


def with_children(pid: int) -> list[int]:
    lists = (each.read_text().split() for each in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(int(child) for children in lists for child in children)]


def seconds(pid: int) -> float:
    """How long processors worked for it, and for its children."""
    ticks = 0
    for each in with_children(pid):
        _, _, told = Path(f"/proc/{each}/stat").read_text().rpartition(")")
        ticks += sum(map(int, told.split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> int:
    """What it had at most, and each of its children."""
    peaks = [
        int(line.split()[1])
        for each in with_children(pid)
        for line in Path(f"/proc/{each}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return max(peaks) // 1024


@pytest.mark.parametrize("which", [bombs, lies])
def test_bombs_and_lies_are_refused_within_bounds(
    program: Program, which: Callable[[], Mapping[str, tuple[str, bytes]]]
) -> None:
    bad = {what: put(program, f"bad-{number}", *blob) for number, (what, blob) in enumerate(which().items())}
    settings = program.home / ".config/narfs/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("root-lookup-deadline = 120\n")  # on a busy machine some lies take longer than 5 s
    with program.mounted() as place:
        (told,) = json.loads(program.output("status", "--json"))
        pid = told["mount"]["pid"]
        for what, member in bad.items():
            begin = seconds(pid)
            with pytest.raises(OSError, match="Input/output error"):
                (place / member.path.base_name).read_bytes()
            assert seconds(pid) - begin < MOST_SECONDS, what
            assert megabytes(pid) < MOST_MEGABYTES, what
        assert (place / program.library.path.base_name / "motto").read_bytes() == b"be lazy\n"


def test_indexes_that_lie_cost_nothing_but_themselves(program: Program) -> None:
    head = zstandard.ZstdCompressor(level=1).compress(MEBIBYTE * 256)
    lying = {
        "a head of 256 MiB": b"NARFSEAL" + struct.pack("<III", 1, 10, len(head)) + b"x" * 10 + head,
        "a head of 4 GiB": b"NARFSEAL" + struct.pack("<III", 1, 10, 2**32 - 1) + b"x" * 500,
        "a text of 4 GiB": b"NARFSEAL" + struct.pack("<III", 1, 2**32 - 1, 10) + b"x" * 500,
        "zeros": MEBIBYTE * 64,
        "nothing": b"",
    }
    tree: Tree = {b"data": File(b"sound\n" * 50_000)}
    members = {}
    for number, (what, data) in enumerate(lying.items()):
        member = add_sealed(program.lake, f"sealed-{number}", tree, program.lake.secret_key)
        assert member.narinfo.index_name == index_name(member.path)
        index_file(program.lake, member.narinfo).write_bytes(data)
        members[what] = member
    with program.mounted(*program.index_keys) as place:
        (told,) = json.loads(program.output("status", "--json"))
        pid = told["mount"]["pid"]
        for what, member in members.items():
            begin = seconds(pid)
            assert (place / member.path.base_name / "data").read_bytes() == b"sound\n" * 50_000
            assert seconds(pid) - begin < MOST_SECONDS, what
            assert megabytes(pid) < MOST_MEGABYTES, what


def test_narinfos_without_end_are_refused(program: Program) -> None:
    path = program.tool.path
    narinfo = program.lake.directory / f"{path.hash_part}.narinfo"
    for text in (narinfo.read_bytes() + b"X: y\n" * 10_000_000, b"Sig: a:" + b"A" * 30_000_000, bytes(50_000_000)):
        narinfo.write_bytes(text)
        code, _, said = program.run("info", *program.stores, path.path)
        assert code == 1
        assert len(said) < 1000
