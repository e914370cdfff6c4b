"""Lots: what one NAR has for good, of all images and of all slabs.

How large a lot must be follows from the sizes of a listing alone, so that it can be given before anything is laid out.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.formats.erofs.ondisk import BLOCK_BYTES, DIRENT, EXTENDED, SLOT_BYTES
from narfs.formats.erofs.slab import range_blocks

if TYPE_CHECKING:
    from narfs.formats.listing import NarListing

_PART_VERSION: Final = b"narfs part 1"
"""To be changed with anything that makes other parts of the same listing."""

_INODE_BYTES_MAX: Final = EXTENDED.size + SLOT_BYTES + 3 * DIRENT.size + 3
"""An inode, what rounds its data up, its record in its parent, and the dots in it; names come on top."""


class Lot(NamedTuple):
    """Blocks of images and of slabs, each from the first on."""

    block: int
    blocks: int
    slab_block: int
    slab_blocks: int


def lot_key(nar_hash: bytes, listing: NarListing) -> bytes:
    """Name the lot of a NAR: 32 bytes, of its contents and of its tree as somebody vouched for it; 0.5 ms a MB.

    A key that signs sealed indexes may claim another tree than somebody else: those share nothing.
    """
    key = hashlib.sha256(_PART_VERSION + nar_hash)
    for buffer in listing.buffers:
        key.update(len(buffer).to_bytes(8, "little"))
        key.update(buffer)
    return key.digest()


def lot_blocks(listing: NarListing, nar_size: int) -> tuple[int, int]:
    """Bound the blocks of its part and of its range in the slab, without a look at its nodes."""
    count = len(listing)
    in_all = count * _INODE_BYTES_MAX + len(listing.buffers[1])
    # Nothing crosses a block, and of two blocks in a row none could have taken what is in the other: half is in use.
    return 2 * -(-in_all // BLOCK_BYTES) + 2, range_blocks(nar_size // BLOCK_BYTES + count)
