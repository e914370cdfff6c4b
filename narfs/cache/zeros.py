"""Zeros: which kilobytes of a NAR really are zeros.

A page that was written and could not be brought to the disk is gone: Linux drops it, tells nobody who does not fsync,
and whoever reads it then is given a hole. ext4 says "Data will be lost" in the kernel's log, and nothing else. So what
this process has written or compared may turn into zeros behind its back, in whole pages.

Rule: nobody is given a kilobyte of zeros that was not compared with its digest as such. What was is remembered, for
NARs do have zeros. A page is at least four of these pieces, and begins with one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE: Final = 1024
"""The smallest block of a file system that one meets."""

_NOTHING: Final = bytes(PIECE)


class Zeros:
    """Of one NAR; 128 KiB a GiB, once there are any."""

    __slots__ = ("_known", "_nar_size")

    def __init__(self, nar_size: int) -> None:
        self._nar_size = nar_size
        self._known: bytearray | None = None

    def around(self, start: int, length: int) -> tuple[int, int]:
        """Give the span of whole pieces that holds ``length`` bytes from ``start``: where it begins and ends."""
        return start - start % PIECE, min(-(-(start + length) // PIECE) * PIECE, self._nar_size)

    def doubtful(self, data: bytes | memoryview, start: int) -> bool:
        """Say whether there are whole pieces of zeros that nobody has compared, from ``start`` on: 3 µs in 128 KiB."""
        return any(not self._is_known((start + at) // PIECE) for at in _zeros_in(data))

    def note(self, data: bytes | memoryview, start: int) -> None:
        """Take in the bytes of a chunk that are as they should be; pieces that it shares with others are not noted."""
        first = -start % PIECE
        whole = max(first, len(data) - (len(data) - first) % PIECE)
        for at in _zeros_in(memoryview(data)[first:whole]):
            self._add((start + first + at) // PIECE)

    def _is_known(self, piece: int) -> bool:
        return self._known is not None and bool(self._known[piece >> 3] & 1 << (piece & 7))

    def _add(self, piece: int) -> None:
        if self._known is None:
            self._known = bytearray(self._nar_size // PIECE // 8 + 1)
        self._known[piece >> 3] |= 1 << (piece & 7)


def _zeros_in(data: bytes | memoryview) -> Iterator[int]:
    """Find the pieces that are all zeros: where they begin. The last one may be shorter."""
    heads = bytes(data[::PIECE])
    at = heads.find(0)
    while at >= 0:
        piece = bytes(data[at * PIECE : (at + 1) * PIECE])
        if piece == _NOTHING[: len(piece)]:
            yield at * PIECE
        at = heads.find(0, at + 1)
