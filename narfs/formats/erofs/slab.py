"""Where the contents of one NAR lie in the slab: its files in NAR order, each from the next block on.

The order of the NAR is kept so that small neighbours are neighbours in the slab too: the kernel's read of 128 KiB is
a few spans of the NAR, close together. Empty files have no place.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from narfs.errors import FormatError
from narfs.formats.erofs.ondisk import BLOCK_BYTES, BLOCKS_END, FILE_BYTES_END
from narfs.formats.listing import KIND_SHIFT, RECORD, RECORD_BYTES, Kind
from narfs.offsets import NarOffset, NarSpan, SlabOffset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from narfs.formats.listing import NarListing

ALIGN_BLOCKS: Final = 256
"""Each NAR begins on 1 MiB."""
_GAP_BLOCKS: Final = 64
"""256 KiB stay empty behind a NAR, so that reading its end fetches nothing of the next: read-ahead of 128 KiB on a slab
served by FUSE was seen to go 160 KB past the last file (Linux 6.18)."""


def range_blocks(blocks: int) -> int:
    """Count what to keep for so many blocks of contents."""
    return -(-(blocks + _GAP_BLOCKS) // ALIGN_BLOCKS) * ALIGN_BLOCKS if blocks else 0


class SlabMap:
    """Converts SlabOffset to NarOffset for one NAR. 4 bytes a node; made in 20 ms for 100 k."""

    __slots__ = ("_listing", "blocks", "starts")

    def __init__(self, listing: NarListing, *, whole: bool = True) -> None:
        """Lay the contents out; a FormatError when they do not fit into a slab. Not ``whole``: only by ``grow``."""
        self._listing = listing
        self.starts: array[int] = array("I")
        """For each node the block where it, or the next file, begins."""
        self.blocks = 0
        if whole:
            self.grow(len(listing))

    def grow(self, nodes: int) -> None:
        """Lay out the next so many nodes."""
        starts = array("Q")
        at = self.blocks
        first = len(self.starts) * RECORD_BYTES
        for _, size, _, _, bits in RECORD.iter_unpack(self._listing.buffers[0][first : first + nodes * RECORD_BYTES]):
            starts.append(at)
            if not bits >> KIND_SHIFT & 3:  # regular
                at += -(-size // BLOCK_BYTES) if size <= FILE_BYTES_END else BLOCKS_END
        if at >= BLOCKS_END:
            raise FormatError("slab", offset=0, expected="files of at most 8 TiB, 16 TiB in all", found="more")
        self.starts.extend(array("I", starts))
        self.blocks = at

    def reaches(self, end: SlabOffset) -> bool:
        """Whether all is laid out that lies before ``end``."""
        return self.blocks * BLOCK_BYTES >= end or len(self.starts) == len(self._listing)

    @property
    def range_blocks(self) -> int:
        """How much of the slab to keep for this NAR, a multiple of ALIGN_BLOCKS; it begins at such a multiple."""
        return range_blocks(self.blocks)

    def spans(self, start: SlabOffset, length: int) -> Iterator[tuple[int, int, SlabOffset, SlabOffset, NarSpan]]:
        """Give the files in a range, in order; all else is zeros.

        Node, size, where it begins in the slab, where what is in the range does, and what that is.
        """
        end = start + length
        starts = self.starts
        for node in range(max(bisect_right(starts, start // BLOCK_BYTES) - 1, 0), len(starts)):
            begin = starts[node] * BLOCK_BYTES
            if begin >= end:
                return
            _, kind, _, nar_offset, size, _, _ = self._listing.node(node)
            low, high = max(start, begin), min(end, begin + size)
            if kind is Kind.REGULAR and low < high:
                contents = nar_offset - begin
                span = NarSpan(NarOffset(contents + low), NarOffset(contents + high))
                yield node, size, SlabOffset(begin), SlabOffset(low), span
