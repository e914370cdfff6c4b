"""The head and the pages of a sealed index: tree, chunks, digests and frames of a NAR. seal.py says around what.

Read pages are put together by sealed_pages.py.

::

    head     = fields sections                         little-endian, see _Fields
    sections = planes of node records, planes of child ids, names (the buffers of listing.py)
               *sha256 of a page
               *u64 NarOffset where a page begins      if CUT
               *u64 BlobOffset where a page begins     if FRAMED
               *u64 blob bounds, *u64 nar bounds       of a frame table, if frames are not the chunks
    page     = [ *u32 bytes of chunk ]                 if CUT
               [ *u32 bytes of frame ]                 if FRAMED
               *sha256 of chunk                        columns, each for the page_chunks chunks of the page

Records are stored in byte planes (all first bytes, all second bytes, …), which zstd packs to 11 bytes a file with its
name on /usr/share/doc, rows to 15; putting planes together is one slice assignment each, 0.2 ms for 5 000 files.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.errors import Corrupt, FormatError
from narfs.formats.digest import Hash
from narfs.formats.frames import FRAME_MAX_BYTES
from narfs.formats.index import DIGEST_BYTES
from narfs.formats.listing import ID_BYTES, MAX_NAMES_BYTES, RECORD_BYTES, NarListing
from narfs.formats.nar import max_nodes
from narfs.offsets import ChunkGrid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from narfs.formats.index import NarIndex
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import PublicKey

PAGE_CHUNKS: Final = 4096
"""Chunks of one page: 160 KiB of it for 1 GiB of NAR."""

_FIELDS: Final = struct.Struct("<QQQIII8s32sQQ")
_CUT: Final = 1
"""Chunks have sizes of their own; else all but the last have ``chunk_bytes``."""
_FRAMED: Final = 2
"""Each chunk is a frame of the blob, the first from its byte 0."""
_MAX_CHUNKS: Final = 8 * 1024 * 1024
"""Of a NAR of two terabytes. A reader makes room for all of them at once, 400 MB for so many."""
_FRAME_MEAN_MIN_BYTES: Final = 4096


class _Fields(NamedTuple):
    """The fixed part of the head."""

    nodes: int
    names_bytes: int
    chunks: int
    chunk_bytes: int
    """No chunk is larger."""
    page_chunks: int
    flags: int
    compression: bytes
    """Of the blob that the frames are of, padded with zeros; this and the next two are zeros if there are none."""
    file_hash: bytes
    file_size: int
    bounds: int
    """Length of either column of the frame table; 0 if there is none or the chunks are the frames."""

    @property
    def pages(self) -> int:
        return -(-self.chunks // self.page_chunks)

    @property
    def cut(self) -> bool:
        return bool(self.flags & _CUT)

    @property
    def framed(self) -> bool:
        return bool(self.flags & _FRAMED)

    @property
    def columns(self) -> int:
        """How many columns of u32 stand in front of the digests of a page."""
        return self.cut + self.framed

    @property
    def section_lengths(self) -> tuple[int, ...]:
        children = max(0, self.nodes - 1) * ID_BYTES
        pages = self.pages
        starts = 8 * pages * self.columns
        return self.nodes * RECORD_BYTES, children, self.names_bytes, DIGEST_BYTES * pages, starts, 16 * self.bounds

    def refuse_nonsense(self, nar_size: int) -> None:
        """Raise FormatError for what no loop should begin with."""
        if not 0 < self.nodes <= max_nodes(nar_size):
            raise bad(f"nodes that fit into {nar_size} bytes", f"{self.nodes}")
        if not 0 < self.chunk_bytes <= FRAME_MAX_BYTES or not self.page_chunks:
            raise bad("chunks and pages of legal size", f"{self.chunk_bytes} bytes, {self.page_chunks} chunks")
        if self.flags & ~(_CUT | _FRAMED):
            raise bad("known flags", f"{self.flags}")
        if not 0 < self.chunks <= _MAX_CHUNKS:
            raise bad(f"1 to {_MAX_CHUNKS} chunks", f"{self.chunks}")
        if not self.cut and self.chunks != ChunkGrid(nar_size, self.chunk_bytes).count:
            raise bad(f"chunks of {nar_size} bytes", f"{self.chunks}")


@dataclass(frozen=True, slots=True)
class SealedHead:
    """What a head says of the NAR of ``narinfo``; made by ``seal.open_head``, which has checked who says it."""

    narinfo: NarInfo
    signer: PublicKey
    listing: NarListing
    pages_at: int
    """Where in the object the first page begins."""
    fields: _Fields
    page_digests: memoryview
    page_starts: tuple[int, ...]
    bounds: tuple[int, ...]

    @classmethod
    def parse(cls, head: memoryview, narinfo: NarInfo, signer: PublicKey, pages_at: int) -> SealedHead:
        """Read a decompressed head; FormatError."""
        if len(head) < _FIELDS.size:
            raise bad(f"{_FIELDS.size} bytes of head", f"{len(head)}")
        fields = _Fields(*_FIELDS.unpack_from(head))
        fields.refuse_nonsense(narinfo.nar_size)
        ends = list(accumulate(fields.section_lengths, initial=_FIELDS.size))
        if len(head) != ends[-1]:
            raise bad(f"a head of {ends[-1]} bytes", f"{len(head)}")
        nodes, children, names, digests, starts, bounds = (head[begin:end] for begin, end in pairwise(ends))
        listing = NarListing(_rows(nodes, RECORD_BYTES), names, _rows(children, ID_BYTES))
        return cls(narinfo, signer, listing, pages_at, fields, digests, _numbers("Q", starts), _numbers("Q", bounds))

    @property
    def blob(self) -> tuple[str, Hash, int]:
        """Compression, FileHash and FileSize of the blob that the frames are of; nobody's if there are none."""
        fields = self.fields
        compression = fields.compression.rstrip(b"\0").decode("ascii", "replace")
        return compression, Hash("sha256", fields.file_hash), fields.file_size

    @property
    def pages(self) -> int:
        """Number of pages."""
        return self.fields.pages

    def page_span(self, page: int) -> tuple[int, int]:
        """Give where in the object a page begins and ends."""
        row = 4 * self.fields.columns + DIGEST_BYTES
        chunks = self.chunks_of(page)
        return self.pages_at + chunks.start * row, self.pages_at + chunks.stop * row

    def chunks_of(self, page: int) -> range:
        """Give the numbers of the chunks that a page describes."""
        first = page * self.fields.page_chunks
        return range(first, min(first + self.fields.page_chunks, self.fields.chunks))

    def check_page(self, page: int, data: bytes | memoryview) -> None:
        """Compare a page with its signed digest; Corrupt."""
        expected = self.page_digests[page * DIGEST_BYTES : (page + 1) * DIGEST_BYTES]
        if hashlib.sha256(data).digest() != expected:
            raise Corrupt(f"sealed index: page {page} is not the one that was signed")


def max_head_bytes(nar_size: int) -> int:
    """Bound the decompressed head of a NAR: its names are part of the NAR, its frames are not tiny."""
    tree = (RECORD_BYTES + ID_BYTES) * max_nodes(nar_size) + min(nar_size, MAX_NAMES_BYTES)
    return _FIELDS.size + tree + 64 * (1024 + nar_size // _FRAME_MEAN_MIN_BYTES)


def write_head(index: NarIndex, file_hash: bytes, page_chunks: int) -> tuple[bytes, list[bytes]]:
    """Give the head before compression, and the pages; ``file_hash`` is that of the blob that the frames are of."""
    frames, grid = index.frames, index.grid
    bounds = chunk_bounds(grid)
    columns = [bounds] if grid.cuts is not None else []
    framed = frames is not None and frames.blob_bounds[0] == 0 and list(frames.nar_bounds) == bounds
    if frames is not None and framed:
        columns.append(list(frames.blob_bounds))
    table = () if frames is None or framed else (*frames.blob_bounds, *frames.nar_bounds)
    pages = list(_pages(columns, bytes(index.digests), page_chunks))
    nodes, names, children = index.listing.buffers
    fields = _Fields(
        nodes=len(index.listing),
        names_bytes=len(names),
        chunks=grid.count,
        chunk_bytes=grid.chunk_bytes,
        page_chunks=page_chunks,
        flags=(grid.cuts is not None) * _CUT | framed * _FRAMED,
        compression=b"" if frames is None else frames.compression.encode(),
        file_hash=bytes(DIGEST_BYTES) if frames is None else file_hash,
        file_size=0 if frames is None else frames.blob_size,
        bounds=len(table) // 2,
    )
    starts = [start for column in columns for start in column[:-1:page_chunks]]
    sections: tuple[bytes | memoryview, ...] = (
        _FIELDS.pack(*fields),
        _planes(nodes, RECORD_BYTES),
        _planes(children, ID_BYTES),
        names,
        *(hashlib.sha256(page).digest() for page in pages),
        struct.pack(f"<{len(starts) + len(table)}Q", *starts, *table),
    )
    return b"".join(sections), pages


def chunk_bounds(grid: ChunkGrid) -> list[int]:
    """Give where each chunk begins, and where the last one ends."""
    return [*(grid.span(chunk).start for chunk in range(grid.count)), grid.nar_size]


def bad(expected: str, found: str, *, offset: int = 0) -> FormatError:
    """Make the error for bytes that are no sealed index."""
    return FormatError("sealed index", offset=offset, expected=expected, found=found[:80])


def _pages(columns: Sequence[Sequence[int]], digests: bytes, page_chunks: int) -> Iterator[bytes]:
    """Cut bounds and digests into pages."""
    chunks = len(digests) // DIGEST_BYTES
    for start in range(0, chunks, page_chunks):
        stop = min(start + page_chunks, chunks)
        lengths = (end - begin for column in columns for begin, end in pairwise(column[start : stop + 1]))
        packed = struct.pack(f"<{(stop - start) * len(columns)}I", *lengths)
        yield packed + digests[start * DIGEST_BYTES : stop * DIGEST_BYTES]


def _planes(rows: memoryview, row_bytes: int) -> bytes:
    return b"".join(bytes(rows[byte::row_bytes]) for byte in range(row_bytes))


def _rows(planes: memoryview, row_bytes: int) -> memoryview:
    rows, count = bytearray(len(planes)), len(planes) // row_bytes
    for byte in range(row_bytes):
        rows[byte::row_bytes] = planes[byte * count : (byte + 1) * count]
    return memoryview(rows).toreadonly()


def _numbers(kind: str, column: bytes | memoryview) -> tuple[int, ...]:
    return struct.unpack(f"<{len(column) // struct.calcsize('<' + kind)}{kind}", column)
