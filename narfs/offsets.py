"""The rulers. An offset belongs to one ruler, and a conversion between two is a function here.

FileOffset counts bytes in one file, NarOffset in the decompressed NAR, BlobOffset in the compressed object in the lake.
The cached copy of a NAR is the NAR with holes, so there NarOffset is also the offset on disk. SlabOffset counts from
where the contents of one NAR begin in the slab, the device behind EROFS images; ``formats/erofs/slab`` converts it.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, NewType

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

FileOffset = NewType("FileOffset", int)
NarOffset = NewType("NarOffset", int)
BlobOffset = NewType("BlobOffset", int)
SlabOffset = NewType("SlabOffset", int)

CHUNK_BYTES = 256 * 1024
"""Grid of chunks in a NAR that has no better cuts: sha256 of one takes 0.2 ms, a digest costs 0.012 % of the NAR."""


class NarSpan(NamedTuple):
    """Bytes ``start`` to ``end`` (exclusive) of a decompressed NAR."""

    start: NarOffset
    end: NarOffset

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.end - self.start


def in_nar(contents: NarOffset, offset: FileOffset) -> NarOffset:
    """Where byte ``offset`` of a file lies in the NAR that holds the file's contents at ``contents``."""
    return NarOffset(contents + offset)


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """How one NAR is cut into chunks, numbered from 0: into equal ones, the last shorter, or at explicit ``cuts``."""

    nar_size: int
    chunk_bytes: int = CHUNK_BYTES
    """Size of each chunk; with ``cuts`` none is larger."""
    cuts: array[int] | memoryview | None = None
    """Where each chunk begins, as u64."""

    @property
    def is_sound(self) -> bool:
        """Whether this cuts the whole NAR into chunks of 1 to ``chunk_bytes`` bytes; 0.1 µs for each cut."""
        if self.cuts is None or not self.chunk_bytes:
            return self.chunk_bytes > 0
        if not len(self.cuts) or self.cuts[0]:
            return False
        return all(0 < end - start <= self.chunk_bytes for start, end in pairwise((*self.cuts, self.nar_size)))

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.nar_size // self.chunk_bytes) if self.cuts is None else len(self.cuts)

    def span(self, chunk: int) -> NarSpan:
        """Where chunk number ``chunk`` lies."""
        if (cuts := self.cuts) is None:
            start = chunk * self.chunk_bytes
            end = min(start + self.chunk_bytes, self.nar_size)
        else:
            start = cuts[chunk]
            end = cuts[chunk + 1] if chunk + 1 < len(cuts) else self.nar_size
        return NarSpan(NarOffset(start), NarOffset(end))

    def covering(self, start: int, length: int) -> range:
        """Give the numbers of the chunks that hold ``length`` bytes from ``start``; empty for no bytes."""
        if length <= 0:
            return range(0)
        if (cuts := self.cuts) is None:
            return range(start // self.chunk_bytes, (start + length - 1) // self.chunk_bytes + 1)
        return range(bisect_right(cuts, start) - 1, bisect_left(cuts, start + length))

    def within(self, span: NarSpan) -> range:
        """Give the numbers of the chunks that lie wholly in ``span``."""
        if (cuts := self.cuts) is None:
            first, end = -(-span.start // self.chunk_bytes), span.end // self.chunk_bytes
        else:
            first, end = bisect_left(cuts, span.start), bisect_right(cuts, span.end) - 1
        return range(first, self.count if span.end >= self.nar_size else end)


def runs(numbers: Iterable[int], longest: int = sys.maxsize) -> list[range]:
    """Join ascending numbers that follow on each other, up to ``longest`` of them."""
    found: list[range] = []
    for number in numbers:
        if found and found[-1].stop == number and len(found[-1]) < longest:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found
