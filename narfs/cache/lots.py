"""Lots: gives each NAR its place in EROFS images and slabs; the same again whenever it is asked.

All lots of a process come from here, so none overlaps another, whatever the disk forgets: a ready part that lies
elsewhere than its lot says is not used. When 16 TiB are given away, of images or of slabs, it begins anew. Images that
are mounted lose nothing by that: each has a slab of its own. It begins anew, too, when lots of one View overlap after
all, because the disk rotted: a slab would have the bytes of one NAR where another's are looked for.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.errors import UsageError
from narfs.formats.erofs.image import FIRST_PART_BLOCK
from narfs.formats.erofs.lot import Lot
from narfs.formats.erofs.ondisk import BLOCKS_END
from narfs.formats.erofs.slab import ALIGN_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from narfs.cache.catalog import Catalog

_BEGIN: Final = (FIRST_PART_BLOCK, 0)


class Wanted(NamedTuple):
    """A key, and blocks of images and of slabs."""

    key: bytes
    blocks: int
    slab_blocks: int


class Lots:
    """Those of one cache directory; without a catalog they are forgotten with the process."""

    def __init__(self, catalog: Catalog | None) -> None:
        self._catalog = catalog
        self._known: dict[bytes, Lot] = {}
        block, slab_block = (0, 0) if catalog is None else catalog.lots_end()
        self._next = max(block, FIRST_PART_BLOCK), max(0, -(-slab_block // ALIGN_BLOCKS) * ALIGN_BLOCKS)

    def give(self, wanted: Sequence[Wanted]) -> list[Lot]:
        """Give the lots of one View; UsageError if it is larger than an image or a slab can be."""
        for again in (True, False):
            lots = {each.key: lot for each in wanted if (lot := self._give(each)) is not None}
            if all(each.key in lots for each in wanted) and not _overlap(lots.values()):
                return [lots[each.key] for each in wanted]
            if again:
                self._begin_anew()
        raise UsageError("these store paths are too large for one erofs mount: use --frontend tree")

    def _give(self, wanted: Wanted) -> Lot | None:
        lot = self._known.get(wanted.key)
        if lot is None and self._catalog is not None:
            lot = self._catalog.lot(wanted.key)
        if lot is None or (lot.blocks, lot.slab_blocks) != wanted[1:] or not _is_sound(lot):
            block, slab_block = self._next
            lot = Lot(block, wanted.blocks, slab_block, wanted.slab_blocks)
            self._next = block + wanted.blocks, slab_block + wanted.slab_blocks
            if max(self._next) > BLOCKS_END:
                return None
            if self._catalog is not None:
                self._catalog.keep_lot(wanted.key, lot)
        self._known[wanted.key] = lot
        return lot

    def _begin_anew(self) -> None:
        self._known.clear()
        self._next = _BEGIN
        if self._catalog is not None:
            self._catalog.forget_lots()
            self._catalog = None  # until the next start: what it still has on disk is of before


def _is_sound(lot: Lot) -> bool:
    end = max(lot.block + lot.blocks, lot.slab_block + lot.slab_blocks)
    return lot.block >= FIRST_PART_BLOCK and lot.slab_block >= 0 and end <= BLOCKS_END


def _overlap(lots: Collection[Lot]) -> bool:
    ranges = sorted(lot[:2] for lot in lots), sorted(lot[2:] for lot in lots)
    return any(start + blocks > behind for each in ranges for (start, blocks), (behind, _) in pairwise(each))
