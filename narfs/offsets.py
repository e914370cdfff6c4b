"""The rulers. An offset belongs to one ruler, and a conversion between two is a function here.

FileOffset counts bytes in one file, NarOffset in the decompressed NAR, BlobOffset in the compressed object in the lake.
The cached copy of a NAR is the NAR with holes, so there NarOffset is also the offset on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, NewType

FileOffset = NewType("FileOffset", int)
NarOffset = NewType("NarOffset", int)
BlobOffset = NewType("BlobOffset", int)

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
    """Chunks of equal size over one NAR; the last is shorter. Chunk numbers count from 0."""

    nar_size: int
    chunk_bytes: int = CHUNK_BYTES

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.nar_size // self.chunk_bytes)

    def span(self, chunk: int) -> NarSpan:
        """Where chunk number ``chunk`` lies."""
        start = chunk * self.chunk_bytes
        return NarSpan(NarOffset(start), NarOffset(min(start + self.chunk_bytes, self.nar_size)))

    def covering(self, start: NarOffset, length: int) -> range:
        """Give the numbers of the chunks that hold ``length`` bytes from ``start``; empty for no bytes."""
        if length <= 0:
            return range(0)
        return range(start // self.chunk_bytes, (start + length - 1) // self.chunk_bytes + 1)
