"""What can be wrong with an HTTP answer, as values, and bodies that carry it out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import trio

from tests.support.packing import pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Stall:
    """Stop after so many bytes of the body, until ``released`` is set; ``reached`` says that it happened."""

    after: int = 0
    reached: trio.Event = field(default_factory=trio.Event)
    released: trio.Event = field(default_factory=trio.Event)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an answer; all that is given applies. Offsets count bytes of the body or the file."""

    status: int | None = None  # with this status and ``body``, nothing of the file
    body: bytes = b"as ordered\n"
    headers: Mapping[str, str] = field(default_factory=dict)  # added, or put in place of the true ones
    redirect: str | None = None  # 302 to there
    body_of: str | None = None  # the body of this path instead
    flip_at: int | None = None  # one bit of this byte of the file
    content_encoding: str | None = None  # really encoded so: gzip, br, zstd
    ignore_range: bool = False  # 200 and the whole file
    content_length: int | None = None  # said, not done
    content_range: str | None = None  # said, not done
    stall: Stall | None = None
    cut_after: int | None = None  # an orderly end of the connection
    reset_after: int | None = None  # a disorderly one: of the last bytes some may get lost
    drip: tuple[int, float] | None = None  # so many bytes, then so many seconds of nothing


@dataclass(frozen=True, slots=True)
class Distance:
    """A slow line in front of the server: every answer waits for ``rtt_s``, all bodies share the bandwidth."""

    rtt_s: float = 0
    bytes_per_s: float | None = None


NEAR = Distance()


class Order:
    """That a fault is to happen on some paths and methods, for some times."""

    def __init__(self, pattern: str, fault: Fault, times: int | None, method: str) -> None:
        self.pattern, self.fault, self.times, self.method = pattern, fault, times, method

    def take(self, method: str, path: str) -> bool:
        if self.times == 0 or not fnmatchcase(method, self.method) or not fnmatchcase(path, self.pattern):
            return False
        if self.times:
            self.times -= 1
        return True


class Body:
    """A file to be sent, read as it goes; encoded in memory if so ordered."""

    def __init__(self, file: Path, fault: Fault) -> None:
        self._flip_at = fault.flip_at
        self._file = file.open("rb", buffering=0)
        status = os.fstat(self._file.fileno())
        self.size = status.st_size
        self.etag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
        self.headers: dict[str, str] = {}
        self._encoded: bytes | None = None
        if fault.content_encoding is not None:
            self._encoded = pack(self._file.readall(), fault.content_encoding)
            self.size = len(self._encoded)
            self.headers = {"Content-Encoding": fault.content_encoding}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> bytes:
        if self._encoded is not None:
            piece = self._encoded[start:end]
        else:
            piece = os.pread(self._file.fileno(), end - start, start)
        if self._flip_at is not None and start <= self._flip_at < end:
            flipped = bytearray(piece)
            flipped[self._flip_at - start] ^= 1
            return bytes(flipped)
        return piece


def steps(length: int, fault: Fault) -> Iterator[tuple[int, int]]:
    """Cut a body of that length where something is ordered to happen, and into pieces."""
    step = fault.drip[0] if fault.drip else PIECE_BYTES
    events = (fault.stall.after if fault.stall else None, fault.cut_after, fault.reset_after)
    cuts = {*range(0, length, step), *(at for at in events if at is not None and at < length), length}
    return pairwise(sorted(cuts))
