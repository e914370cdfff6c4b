"""How one NAR is cut: chunks are checked, segments are evicted. Kept as the header of its presence map.

A segment is a whole number of chunks. The NAR of a blob with random access has segments of about 4 MiB, because each
can be fetched again by itself; the NAR of a solid blob is one segment, because any part of it costs the whole pass
again.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

from narfs.errors import FormatError
from narfs.offsets import ChunkGrid

SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""Small against a budget of gigabytes, large against the 100 µs that evicting one costs."""

ABSENT: Final = 0
PRESENT: Final = 1
"""On disk, not compared with its digest since the start."""
CHECKED: Final = 2
"""On disk and known to be right; only in memory, the map on disk knows ABSENT and PRESENT."""

_MAGIC: Final = b"narfsmap"
_VERSION: Final = 1
_FIELDS: Final = struct.Struct("<8sII32sQI")
_CHECK: Final = struct.Struct("<I")
HEADER_BYTES: Final = _FIELDS.size + _CHECK.size


class Layout(NamedTuple):
    """The cuts of one NAR."""

    nar_hash: bytes
    grid: ChunkGrid
    segment_chunks: int

    @classmethod
    def of(cls, nar_hash: bytes, grid: ChunkGrid, *, random_access: bool) -> Layout:
        """Decide how large the segments are."""
        whole = max(1, grid.count)
        return cls(nar_hash, grid, min(whole, max(1, SEGMENT_BYTES // grid.chunk_bytes)) if random_access else whole)

    @property
    def segments(self) -> int:
        """Number of segments."""
        return -(-self.grid.count // self.segment_chunks)

    @property
    def map_bytes(self) -> int:
        """Size of the presence map."""
        return HEADER_BYTES + self.grid.count

    def chunks_of(self, segment: int) -> range:
        """Give the chunks of one segment."""
        start = segment * self.segment_chunks
        return range(start, min(start + self.segment_chunks, self.grid.count))

    def segments_of(self, chunks: range) -> range:
        """Give the segments that hold ``chunks``."""
        if not chunks:
            return range(0)
        return range(chunks.start // self.segment_chunks, (chunks.stop - 1) // self.segment_chunks + 1)

    def bytes_by_segment(self, states: bytes | bytearray) -> dict[int, int]:
        """Count the bytes of the chunks that are not ABSENT; segments without any are left out."""
        sizes = {}
        last = self.grid.count - 1
        for segment in range(self.segments):
            chunks = self.chunks_of(segment)
            there = len(chunks) - states.count(ABSENT, chunks.start, chunks.stop)
            if not there:
                continue
            size = there * self.grid.chunk_bytes
            if chunks.stop > last and states[last] != ABSENT:
                size -= self.grid.chunk_bytes - self.grid.span(last).length
            sizes[segment] = size
        return sizes

    def to_bytes(self) -> bytes:
        """Write the header."""
        fields = _FIELDS.pack(
            _MAGIC, _VERSION, self.grid.chunk_bytes, self.nar_hash, self.grid.nar_size, self.segment_chunks
        )
        return fields + _CHECK.pack(zlib.crc32(fields))

    @classmethod
    def from_bytes(cls, data: bytes) -> Layout:
        """Read the header at the beginning of ``data``; FormatError for anything else than what ``to_bytes`` writes."""
        if len(data) < HEADER_BYTES:
            raise _mismatch(len(data), f"{HEADER_BYTES} bytes of header", f"{len(data)} bytes")
        magic, version, chunk_bytes, nar_hash, nar_size, segment_chunks = _FIELDS.unpack_from(data)
        if (magic, version) != (_MAGIC, _VERSION):
            raise _mismatch(0, f"{_MAGIC!r} version {_VERSION}", f"{magic!r} version {version}")
        if _CHECK.unpack_from(data, _FIELDS.size) != (zlib.crc32(data[: _FIELDS.size]),):
            raise _mismatch(_FIELDS.size, "the crc32 of the header", "another")
        if not chunk_bytes or not segment_chunks:
            raise _mismatch(_FIELDS.size, "chunks and segments of some size", "0")
        return cls(nar_hash, ChunkGrid(nar_size, chunk_bytes), segment_chunks)


def _mismatch(offset: int, expected: str, found: str) -> FormatError:
    return FormatError("presence map", offset=offset, expected=expected, found=found[:80])
