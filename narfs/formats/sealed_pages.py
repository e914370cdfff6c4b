"""PagedIndex: a NarIndex whose pages come one by one.

The head says where each page begins, in the NAR and in the blob; how its span is cut stands in the page. Until a page
is here its chunks and frames are taken for equally long. So the index is sound from the beginning, every search in it
finds the right page, and filling one page moves nothing outside it: whoever first fills what ``missing`` says of a span
sees there what he would see in the whole index.

The columns have their full length at once: 48 bytes a chunk, 19 MB for a NAR of 100 GB in chunks of 256 KiB. Making
them takes 0.2 s then.
"""

from __future__ import annotations

import struct
from array import array
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Final

from narfs.formats.frames import FRAME_MAX_BYTES, FrameTable
from narfs.formats.index import DIGEST_BYTES, NarIndex
from narfs.formats.sealed_head import bad
from narfs.offsets import ChunkGrid, NarSpan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from narfs.formats.sealed_head import SealedHead

_BLOB_FRAME_MAX_BYTES: Final = 2 * FRAME_MAX_BYTES
"""Of one frame in the blob, which is held in memory: incompressible, or with skippable frames behind."""


class PagedIndex:
    """The index that ``head`` begins; FormatError."""

    def __init__(self, head: SealedHead) -> None:
        narinfo, fields = head.narinfo, head.fields
        self.head = head
        self._missing = set(range(head.pages))
        self._digests = bytearray(DIGEST_BYTES * fields.chunks)
        starts = [head.page_starts[: head.pages], head.page_starts[-head.pages :]]
        counts = [len(head.chunks_of(page)) for page in range(head.pages)]
        self._columns: list[_Column] = []
        cuts = blob = None
        if fields.cut:
            cuts = _Column(starts[0], narinfo.nar_size, counts, fields.chunk_bytes)
            self._columns.append(cuts)
        if fields.framed:
            blob = _Column(starts[-1], fields.file_size, counts, _BLOB_FRAME_MAX_BYTES, exact_end=False)
            self._columns.append(blob)
        grid = ChunkGrid(narinfo.nar_size, fields.chunk_bytes, None if cuts is None else memoryview(cuts.bounds)[:-1])
        table = None
        if head.blob == (narinfo.compression, narinfo.file_hash, narinfo.file_size):  # else they are of another blob
            if blob is not None:
                table = (blob.bounds, _bounds(grid) if cuts is None else cuts.bounds)
            elif head.bounds:
                table = _table(head.bounds)
        self.index = NarIndex(
            nar_hash=narinfo.nar_hash,
            nar_size=narinfo.nar_size,
            listing=head.listing,
            grid=grid,
            digests=memoryview(self._digests).toreadonly(),
            frames=None if table is None else FrameTable(narinfo.compression, fields.file_size, *table),
            voucher=head.signer,
        )

    @property
    def unfilled(self) -> list[int]:
        """The pages that are not here. When there are none ``index`` is as good as any other."""
        return sorted(self._missing)

    def missing(self, start: int, length: int) -> list[int]:
        """Give the pages that must be here before chunks of a span are looked for, and fetched as whole frames."""
        grid, frames = self.index.grid, self.index.frames
        chunks = grid.covering(start, length)
        if chunks and frames is not None:
            within = frames.covering(NarSpan(grid.span(chunks[0]).start, grid.span(chunks[-1]).end))
            last = within[-1]
            chunks = grid.covering(within[0].nar, last.nar + last.nar_length - within[0].nar)
        page_chunks = self.head.fields.page_chunks
        pages = range(chunks.start // page_chunks, -(-chunks.stop // page_chunks))
        return [page for page in pages if page in self._missing]

    def fill(self, page: int, data: bytes | memoryview) -> None:
        """Take one page; Corrupt, FormatError. 1 ms for 4096 chunks; may be done in a thread."""
        self.head.check_page(page, data)
        chunks = self.head.chunks_of(page)
        width = 4 * len(chunks)
        for number, column in enumerate(self._columns):
            lengths = struct.unpack(f"<{len(chunks)}I", data[width * number : width * (number + 1)])
            column.fill(page, chunks.start, lengths)
        self._digests[DIGEST_BYTES * chunks.start : DIGEST_BYTES * chunks.stop] = data[width * len(self._columns) :]
        self._missing.discard(page)


class _Column:
    """Where each chunk begins by one ruler, and where the last one ends."""

    def __init__(
        self, starts: Sequence[int], end: int, counts: Sequence[int], longest: int, *, exact_end: bool = True
    ) -> None:
        self._pages = (*starts, end)
        self._exact_end = exact_end
        """Whether the last chunk ends where the last page does; behind the last frame there may be a seek table."""
        self._longest = longest
        self.bounds = array("Q")
        for (begin, stop), count in zip(pairwise(self._pages), counts, strict=True):
            self.bounds.extend(_evenly(begin, stop, count))
        self.bounds.append(end)

    def fill(self, page: int, first: int, lengths: Sequence[int]) -> None:
        """Put in where the chunks from number ``first`` on begin and end."""
        begin, end = self._pages[page : page + 2]
        if min(lengths) < 1 or max(lengths) > self._longest:
            found = f"{min(lengths)} to {max(lengths)} bytes"
            raise bad(f"chunks and frames that can be held in memory, up to {self._longest} bytes", found)
        bounds = array("Q", accumulate(lengths, initial=begin))
        last = first + len(lengths) == len(self.bounds) - 1
        if bounds[-1] > end or (bounds[-1] < end and (self._exact_end or not last)):
            raise _elsewhere()
        self.bounds[first : first + len(bounds)] = bounds


def _evenly(begin: int, end: int, count: int) -> Iterator[int]:
    """Divide a span into ``count`` parts that differ by one byte at most; give where they begin."""
    step, longer = divmod(end - begin, count)
    if step < 1:
        raise _elsewhere()
    middle = begin + longer * (step + 1)
    return chain(range(begin, middle, step + 1), range(middle, end, step))


def _bounds(grid: ChunkGrid) -> array[int]:
    return array("Q", (*range(0, grid.nar_size, grid.chunk_bytes), grid.nar_size))


def _table(bounds: Sequence[int]) -> tuple[array[int], array[int]]:
    """Read the frames of a blob that others wrote."""
    half = len(bounds) // 2
    blob, nar = array("Q", bounds[:half]), array("Q", bounds[half:])
    longest = max(end - start for column in (blob, nar) for start, end in pairwise(column))
    if longest > _BLOB_FRAME_MAX_BYTES:
        raise bad("frames that can be held in memory", f"one of {longest} bytes")
    return blob, nar


def _elsewhere() -> Exception:
    return bad("chunks that begin and end where the head says", "others")
