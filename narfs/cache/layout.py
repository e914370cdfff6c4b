"""How one NAR is cut: chunks are checked, segments are evicted. Kept as the header of its presence map.

A segment is a whole number of chunks. The NAR of a blob with random access has segments of about 4 MiB, because each
can be fetched again by itself; the NAR of a solid blob is one segment, because any part of it costs the whole pass
again.

The header, in the machine's byte order: the fields, the cuts if the chunks have explicit ones (``ChunkGrid``), the
crc32 of all that. Who evicts has no index at hand, so the cuts are here too.
"""

from __future__ import annotations

import struct
import zlib
from array import array
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
_VERSION: Final = 2
_FIELDS: Final = struct.Struct("=8sII32sQIQ")
_CHECK: Final = struct.Struct("=I")
_CUT_BYTES: Final = 8
HEADER_BYTES: Final = _FIELDS.size + _CHECK.size
"""Of a NAR that is cut into equal chunks."""


class Layout(NamedTuple):
    """The cuts of one NAR."""

    key: bytes
    grid: ChunkGrid
    segment_chunks: int

    @classmethod
    def of(cls, key: bytes, grid: ChunkGrid, *, random_access: bool) -> Layout:
        """Decide how large the segments are."""
        whole = max(1, grid.count)
        if not random_access:
            return cls(key, grid, whole)
        return cls(key, grid, min(whole, max(1, SEGMENT_BYTES * whole // max(1, grid.nar_size))))

    @property
    def segments(self) -> int:
        """Number of segments."""
        return -(-self.grid.count // self.segment_chunks)

    @property
    def header_bytes(self) -> int:
        """Size of the header."""
        return HEADER_BYTES + _CUT_BYTES * (0 if self.grid.cuts is None else len(self.grid.cuts))

    @property
    def map_bytes(self) -> int:
        """Size of the presence map."""
        return self.header_bytes + self.grid.count

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
        span = self.grid.span
        for segment in range(self.segments):
            chunks = self.chunks_of(segment)
            absent = states.count(ABSENT, chunks.start, chunks.stop)
            if not absent:
                sizes[segment] = span(chunks.stop - 1).end - span(chunks.start).start
            elif absent < len(chunks):
                sizes[segment] = sum(span(chunk).length for chunk in chunks if states[chunk] != ABSENT)
        return sizes

    def to_bytes(self) -> bytes:
        """Write the header."""
        grid = self.grid
        cuts = b"" if grid.cuts is None else grid.cuts.tobytes()
        sizes = (grid.nar_size, self.segment_chunks, len(cuts) // _CUT_BYTES)
        header = _FIELDS.pack(_MAGIC, _VERSION, grid.chunk_bytes, self.key, *sizes) + cuts
        return header + _CHECK.pack(zlib.crc32(header))

    @classmethod
    def from_bytes(cls, data: bytes) -> Layout:
        """Read the header at the beginning of ``data``; FormatError for anything else than what ``to_bytes`` writes."""
        if len(data) < HEADER_BYTES:
            raise _mismatch(len(data), f"{HEADER_BYTES} bytes of header", f"{len(data)} bytes")
        magic, version, chunk_bytes, key, nar_size, segment_chunks, cut_count = _FIELDS.unpack_from(data)
        if (magic, version) != (_MAGIC, _VERSION):
            raise _mismatch(0, f"{_MAGIC!r} version {_VERSION}", f"{magic!r} version {version}")
        end = _FIELDS.size + _CUT_BYTES * cut_count
        if len(data) < end + _CHECK.size:
            raise _mismatch(len(data), f"{cut_count} cuts", f"{len(data)} bytes")
        if _CHECK.unpack_from(data, end) != (zlib.crc32(data[:end]),):
            raise _mismatch(end, "the crc32 of the header", "another")
        if not chunk_bytes or not segment_chunks:
            raise _mismatch(_FIELDS.size, "chunks and segments of some size", "0")
        cuts = array("Q", data[_FIELDS.size : end]) if cut_count else None
        return cls(key, ChunkGrid(nar_size, chunk_bytes, cuts), segment_chunks)


def _mismatch(offset: int, expected: str, found: str) -> FormatError:
    return FormatError("presence map", offset=offset, expected=expected, found=found[:80])
