"""Zeros: which kilobytes of a NAR really are zeros.

A page that was written and could not be brought to the disk is gone: Linux drops it, tells nobody who does not fsync,
and whoever reads it then is given a hole. ext4 says "Data will be lost" in the kernel's log, and nothing else. So what
this process has written or compared may turn into zeros behind its back, in whole pages.

Rule: nobody is given a kilobyte of zeros that was not compared with its digest as such. What was is remembered, for
NARs do have zeros. A page is at least four of these pieces, and begins with one.
"""

from __future__ import annotations

from typing import Final

PIECE: Final = 1024
"""The smallest block of a file system that one meets."""

_NOTHING: Final = bytes(PIECE)
_ZEROS: Final = 255


class Zeros:
    """Of one NAR; 1 MiB a GiB, once there are any, of which what stays zero takes no memory."""

    __slots__ = ("_known", "_nar_size")

    def __init__(self, nar_size: int) -> None:
        self._nar_size = nar_size
        self._known = bytearray()
        """By piece ``_ZEROS`` if it was compared and is zeros; else 0."""

    def around(self, start: int, length: int) -> tuple[int, int]:
        """Give the span of whole pieces that holds ``length`` bytes from ``start``: where it begins and ends."""
        return start - start % PIECE, min(-(-(start + length) // PIECE) * PIECE, self._nar_size)

    def doubtful(self, data: bytes | memoryview, start: int) -> bool:
        """Say whether there are whole pieces of zeros that nobody has compared, from ``start`` on: 5 µs in 128 KiB."""
        return bool(_zeros_in(data, self._known, start // PIECE))

    def note(self, data: bytes | memoryview, start: int) -> None:
        """Take in the bytes of a chunk that are as they should be; pieces that it shares with others are not noted."""
        first = -start % PIECE
        whole = max(first, len(data) - (len(data) - first) % PIECE)
        for piece in _zeros_in(memoryview(data)[first:whole], b"", 0):
            if not self._known:
                self._known = bytearray(self._nar_size // PIECE + 1)
            self._known[(start + first) // PIECE + piece] = _ZEROS


def _zeros_in(data: bytes | memoryview, known: bytes | bytearray, first: int) -> list[int]:
    """Find the pieces that are all zeros, the first of which is number ``first``, but for those that are ``known``.

    The last one may be shorter. A tenth of the pieces of programs begin with a zero; so their middles are looked at
    next, those of all in one number each, and what is known beside them.
    """
    heads = bytes(data[::PIECE])
    if 0 not in heads:
        return []
    middles, known = data[PIECE // 2 :: PIECE], known[first : first + len(heads)]
    other = int.from_bytes(heads, "little") | int.from_bytes(middles, "little") | int.from_bytes(known, "little")
    left = other.to_bytes(len(heads), "little")
    found, piece = [], left.find(0)
    while piece >= 0:
        if _NOTHING.startswith(data[piece * PIECE : (piece + 1) * PIECE]):
            found.append(piece)
        piece = left.find(0, piece + 1)
    return found
