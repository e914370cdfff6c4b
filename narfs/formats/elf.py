"""What an ELF file says of the files that its start needs: interpreter, libraries, where they are looked for.

The little of ELF that ld.so reads before it runs anything; 32 and 64 bit, both byte orders::

    ELF header                  says where the program headers are
    program header  PT_INTERP   where the name of the interpreter is
                    PT_DYNAMIC  where the dynamic section is
                    PT_LOAD     which bytes of the file appear at which addresses
    dynamic section             DT_STRTAB (an address) and DT_STRSZ; DT_NEEDED, DT_RPATH, DT_RUNPATH: strings in there

These lie far apart in a file of which little may be here. So the parser says which spans it wants and is sent their
bytes, several at once: ``reading`` is a generator. What makes no sense is left out, for nobody but ld.so judges it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.errors import FormatError
from narfs.formats.quote import quote
from narfs.offsets import FileOffset

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

MAGIC: Final = b"\x7fELF"

HEADER_BYTES: Final = 64
"""Of the longer ELF header; no shorter file can be loaded."""
MOST_PROGRAM_HEADERS: Final = 256
"""Real files have about 13."""
MOST_DYNAMIC_BYTES: Final = 64 * 1024
"""4096 entries; real files have 30, and one for each library."""
MOST_LIBRARIES: Final = 512
"""Of one file; the largest programs name 200."""
MOST_NAME_BYTES: Final = 4096
"""Of an interpreter or a library: PATH_MAX."""
MOST_SEARCH_BYTES: Final = 64 * 1024
"""Of a RUNPATH; Nix writes about 60 bytes for each library."""

_PT_LOAD: Final = 1
_PT_DYNAMIC: Final = 2
_PT_INTERP: Final = 3
_PF_X: Final = 1

_DT_NULL: Final = 0
_DT_NEEDED: Final = 1
_DT_STRTAB: Final = 5
_DT_STRSZ: Final = 10
_DT_RPATH: Final = 15
_DT_RUNPATH: Final = 29


class FileSpan(NamedTuple):
    """``length`` bytes of a file."""

    start: FileOffset
    length: int


class Needs(NamedTuple):
    """What the start of an ELF file needs beside itself, as it is written there."""

    interpreter: bytes | None
    libraries: tuple[bytes, ...]
    """DT_NEEDED, in order: names, or paths where there is a slash."""
    runpath: tuple[bytes, ...]
    """Directories in which this file's libraries are looked for."""
    rpath: tuple[bytes, ...]
    """The same, for its libraries' libraries too; empty if there is a runpath: so ld.so has it."""
    mapped: tuple[FileSpan, ...]
    """What is loaded and is no code: symbols, relocations and data, which ld.so walks through whatever is run."""


class _ProgramHeader(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    length: int


_NOTHING: Final = _ProgramHeader(0, 0, 0, 0, 0)


class _Class(NamedTuple):
    """How one class of files is laid out: ``order`` is struct's mark, ``wide`` means 64 bit."""

    order: str
    wide: bool

    def table(self, header: bytes) -> tuple[int, int, int]:
        """Give offset, bytes of an entry and number of entries of the program headers."""
        layout = "32xQ14xHH" if self.wide else "28xI10xHH"
        start, entry_bytes, count = struct.unpack_from(self.order + layout, header)
        return start, entry_bytes, count

    @property
    def entry_bytes(self) -> int:
        """Bytes of a program header."""
        return 56 if self.wide else 32

    def entry(self, data: bytes, at: int) -> _ProgramHeader:
        """Read a program header."""
        if self.wide:
            return _ProgramHeader(*struct.unpack_from(self.order + "IIQQ8xQ", data, at))
        kind, offset, address, length, flags = struct.unpack_from(self.order + "III4xI4xI", data, at)
        return _ProgramHeader(kind, flags, offset, address, length)

    def dynamic(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Give tags and values of a dynamic section up to its end."""
        layout = struct.Struct(self.order + ("QQ" if self.wide else "II"))
        for tag, value in layout.iter_unpack(data[: len(data) // layout.size * layout.size]):
            if tag == _DT_NULL:
                return
            yield tag, value


def reading(size: int) -> Generator[Sequence[FileSpan], Sequence[bytes], Needs]:
    """Parse a file of ``size`` bytes: give spans of it, be sent the bytes of each, return Needs at the end.

    FormatError: it is no ELF file, or none that could be loaded.
    """
    whole = FileSpan(FileOffset(0), size)
    (header,) = yield [_clipped(whole, 0, HEADER_BYTES)]
    layout = _class_of(header)
    start, entry_bytes, count = layout.table(header)
    if entry_bytes != layout.entry_bytes:
        raise _bad(42, f"program headers of {layout.entry_bytes} bytes", f"{entry_bytes}")
    (table,) = yield [_clipped(whole, start, min(count, MOST_PROGRAM_HEADERS) * entry_bytes)]
    parts = [layout.entry(table, at) for at in range(0, len(table) - entry_bytes + 1, entry_bytes)]
    loaded = [part for part in parts if part.kind == _PT_LOAD]
    interp = next((part for part in parts if part.kind == _PT_INTERP), _NOTHING)
    dynamic = next((part for part in parts if part.kind == _PT_DYNAMIC), _NOTHING)

    interpreter, section = yield [
        _clipped(whole, interp.offset, min(interp.length, MOST_NAME_BYTES)),
        _clipped(whole, dynamic.offset, min(dynamic.length, MOST_DYNAMIC_BYTES)),
    ]
    entries = list(layout.dynamic(section))
    values = dict(entries)
    strings = _clipped(whole, _in_file(loaded, values.get(_DT_STRTAB, 0)), values.get(_DT_STRSZ, 0))
    places = [value for tag, value in entries if tag == _DT_NEEDED][:MOST_LIBRARIES]
    names = yield [
        *(_clipped(strings, place, MOST_NAME_BYTES) for place in places),
        *(_clipped(strings, values.get(tag, size), MOST_SEARCH_BYTES) for tag in (_DT_RUNPATH, _DT_RPATH)),
    ]
    *libraries, runpath, rpath = (name.partition(b"\0")[0] for name in names)
    return Needs(
        interpreter=interpreter.partition(b"\0")[0] or None,
        libraries=tuple(dict.fromkeys(filter(None, libraries))),
        runpath=_directories(runpath),
        rpath=() if _DT_RUNPATH in values else _directories(rpath),
        mapped=tuple(_clipped(whole, part.offset, part.length) for part in loaded if not part.flags & _PF_X),
    )


def needs_of(data: bytes) -> Needs:
    """Parse a whole file; FormatError."""
    parser = reading(len(data))
    spans = next(parser)
    while True:
        try:
            spans = parser.send([data[start : start + length] for start, length in spans])
        except StopIteration as end:
            needs: Needs = end.value
            return needs


def _class_of(header: bytes) -> _Class:
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise _bad(0, "an ELF header", quote(header[:8]))
    wide, order = header[4], header[5]
    if wide not in (1, 2) or order not in (1, 2):
        raise _bad(4, "1 or 2 for class and byte order", quote(header[4:6]))
    return _Class("<" if order == 1 else ">", wide == 2)


def _in_file(loaded: Sequence[_ProgramHeader], address: int) -> int:
    """Say where in the file an address comes from; beyond any file if from nowhere."""
    for part in loaded:
        if part.address <= address < part.address + part.length:
            return part.offset + address - part.address
    return 2**64


def _clipped(outer: FileSpan, start: int, length: int) -> FileSpan:
    """Give what of a span, counted from the beginning of ``outer``, lies in there."""
    start = min(start, outer.length)
    return FileSpan(FileOffset(outer.start + start), min(length, outer.length - start))


def _directories(search: bytes) -> tuple[bytes, ...]:
    return tuple(filter(None, search.split(b":")))


def _bad(offset: int, expected: str, found: str) -> FormatError:
    return FormatError("ELF", offset=offset, expected=expected, found=found)
