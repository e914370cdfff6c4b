"""Profile: which parts of which files were read, in order, without saying of which hashes. docs/lake-format.md.

::

    body     = fields sections                         little-endian
    fields   = u32 failed runs, u32 packages, u32 files, u32 reads, u32 bytes of paths
    sections = *u8 length of a package's name, *u8 its number among those of that name, names
               *u32 package of a file, *u16 length of its path, paths
               *u32 ms, *u32 file, *u32 first block, *u32 last block, *u8 unseen           one of each for a read

A profile is a hint from a stranger. So nothing in it points anywhere but into itself, its sizes are bounded before
anything is made of them, and what it names need not exist.
"""

from __future__ import annotations

import re
import struct
from array import array
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.errors import FormatError, UsageError
from narfs.formats.nar_grammar import MAX_DEPTH
from narfs.formats.quote import quote
from narfs.formats.store_path import MAX_NAME_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BLOCK_BYTES: Final = 128 * 1024
"""What the kernel reads ahead, and so the grain in which programs read files."""

MAX_READS: Final = 16_384
"""Runs of blocks: 8 GB if each is a chunk far from the others. What comes later was not worth waiting for."""
MAX_PATH_BYTES: Final = 4096
MAX_PATHS_BYTES: Final = 2 * 1024 * 1024
"""128 bytes for each of as many files as there can be reads."""
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""More than all of these bounds together make."""

_FIELDS: Final = struct.Struct("<IIIII")
_U32_MAX: Final = 2**32 - 1
_PROFILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+?=-]{0,127}")
_PACKAGE_NAME: Final = re.compile(rf"[0-9A-Za-z+\-._?=]{{1,{MAX_NAME_CHARS}}}".encode())
_NO_COMPONENTS: Final = frozenset((b"", b".", b".."))


class Place(NamedTuple):
    """A file of a package: what stays when hashes change."""

    package: str
    """The name of its store path behind the hash: ``openssl-3.0.14-bin``."""
    nth: int
    """Which of the View's paths with that name, in the order of their hashes; 0 where there is one."""
    file: bytes
    """Its path inside, without a leading slash; empty if the store path is a file."""


class Read(NamedTuple):
    """Blocks ``first`` to ``last`` of a file, read at ``at_ms`` after the View was there."""

    at_ms: int
    place: Place
    first: int
    last: int
    unseen: int = 0
    """In how many runs since it was not read."""

    @property
    def blocks(self) -> int:
        """How many."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Profile:
    """Reads in the order in which they are to be brought. ``failed_runs`` read much less, and changed nothing yet."""

    reads: tuple[Read, ...]
    failed_runs: int = 0

    @property
    def blocks(self) -> int:
        """Blocks of all reads."""
        return sum(read.blocks for read in self.reads)

    def to_bytes(self) -> bytes:
        """Write the body; ValueError if there is more in it than ``bounded`` lets through."""
        packages = {key: number for number, key in enumerate(dict.fromkeys(read.place[:2] for read in self.reads))}
        files = {place: number for number, place in enumerate(dict.fromkeys(read.place for read in self.reads))}
        names = [name.encode("ascii") for name, _ in packages]
        paths = [place.file for place in files]
        if len(self.reads) > MAX_READS or sum(map(len, paths)) > MAX_PATHS_BYTES:
            raise ValueError("a profile of more than may be")
        return b"".join(
            (
                _FIELDS.pack(self.failed_runs, len(names), len(paths), len(self.reads), sum(map(len, paths))),
                _column("B", map(len, names)),
                _column("B", (nth for _, nth in packages)),
                *names,
                _column("I", (packages[place[:2]] for place in files)),
                _column("H", map(len, paths)),
                *paths,
                _column("I", (read.at_ms for read in self.reads)),
                _column("I", (files[read.place] for read in self.reads)),
                _column("I", (read.first for read in self.reads)),
                _column("I", (read.last for read in self.reads)),
                _column("B", (read.unseen for read in self.reads)),
            )
        )

    @classmethod
    def parse(cls, body: bytes) -> Profile:
        """Read exactly ``body``; FormatError."""
        sections = _Sections(body)
        failed_runs, packages, files, reads, paths_bytes = sections.fields()
        if max(packages, files, reads) > MAX_READS or paths_bytes > MAX_PATHS_BYTES:
            raise bad("a profile of legal size", f"{packages} packages, {files} files, {reads} reads")
        name_lengths, nths = sections.take(packages), sections.take(packages)
        names = _cut(sections.take(sum(name_lengths)), name_lengths)
        owners = sections.column("I", files)
        paths_lengths = sections.column("H", files)
        paths = _cut(sections.take(paths_bytes), paths_lengths)
        columns = [sections.column("I", reads) for _ in range(4)]
        unseen = sections.take(reads)
        sections.end()
        for name in names:
            _hold(_PACKAGE_NAME.fullmatch(name) is not None, "the name of a store path", name)
        for path in paths:
            _hold(_is_path(path), "the path of a file in a NAR", path)
        try:
            owned = zip(owners, paths, strict=True)
            places = [Place(names[owner].decode("ascii"), nths[owner], path) for owner, path in owned]
            found = tuple(
                Read(at_ms, places[file], first, last, age)
                for at_ms, file, first, last, age in zip(*columns, unseen, strict=True)
            )
        except IndexError:
            raise bad("packages and files that are listed", "a number beyond them") from None
        for read in found:
            _hold(read.first <= read.last, "blocks in order", f"{read.first} to {read.last}")
        return cls(found, failed_runs)


def bounded(reads: Iterable[Read]) -> tuple[Read, ...]:
    """Give as many of the first reads as a profile may have; those of no legal place are left out."""
    chosen: list[Read] = []
    known: set[Place] = set()
    paths_bytes = 0
    for read in reads:
        if read.place not in known:
            if not _is_path(read.place.file) or read.place.nth > 0xFF:
                continue
            known.add(read.place)
            paths_bytes += len(read.place.file)
        if paths_bytes > MAX_PATHS_BYTES or len(chosen) == MAX_READS:
            break
        chosen.append(read._replace(at_ms=min(read.at_ms, _U32_MAX)))
    return tuple(chosen)


def is_profile_name(name: str) -> bool:
    """Say whether a profile can have that name. It is a file's name, and part of a statement."""
    return _PROFILE_NAME.fullmatch(name) is not None


def checked_profile_name(name: str) -> str:
    """Give the name of a profile back; UsageError if it is none."""
    if not is_profile_name(name):
        raise UsageError(
            f"profile name {quote(name)}: expected 1 to 128 letters, digits and ._+?=-, not beginning with a mark"
        )
    return name


def bad(expected: str, found: str, *, offset: int = 0) -> FormatError:
    """Make the error for bytes that are no profile."""
    return FormatError("profile", offset=offset, expected=expected, found=found[:80])


class _Sections:
    """The sections of a body, one after the other."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def fields(self) -> tuple[int, ...]:
        return _FIELDS.unpack(self.take(_FIELDS.size))

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._body):
            raise bad(f"{end} bytes", f"{len(self._body)}", offset=self._at)
        taken, self._at = self._body[self._at : end], end
        return taken

    def column(self, code: str, rows: int) -> Sequence[int]:
        return struct.unpack(f"<{rows}{code}", self.take(rows * struct.calcsize(f"<{code}")))

    def end(self) -> None:
        if self._at != len(self._body):
            raise bad("the end", f"{len(self._body) - self._at} bytes more", offset=self._at)


def _column(code: str, values: Iterable[int]) -> bytes:
    column = array("Q", values)
    return struct.pack(f"<{len(column)}{code}", *column)


def _cut(joined: bytes, lengths: Iterable[int]) -> list[bytes]:
    ends = list(accumulate(lengths, initial=0))
    if ends[-1] != len(joined):
        raise bad(f"{ends[-1]} bytes of names", f"{len(joined)}")
    return [joined[start:end] for start, end in pairwise(ends)]


def _is_path(path: bytes) -> bool:
    if not path:
        return True
    names = path.split(b"/")
    return (
        len(path) <= MAX_PATH_BYTES
        and len(names) < MAX_DEPTH
        and b"\0" not in path
        and not _NO_COMPONENTS.intersection(names)
    )


def _hold(holds: bool, expected: str, found: str | bytes) -> None:
    if not holds:
        raise bad(expected, quote(found))
