"""The head of an image: superblock, device table and root directory of one View. All else in it are parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.errors import FormatError, UsageError
from narfs.formats.erofs import ondisk
from narfs.formats.erofs.directory import pack
from narfs.formats.erofs.inode import data_slots, write_with_data
from narfs.formats.erofs.ondisk import BLOCK_BYTES, COMPACT, ROOT_NID, SLOT_BYTES, SLOTS_PER_BLOCK
from narfs.formats.listing import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_PART_BLOCK: Final = 4096
"""Parts begin here. The 16 MiB before it hold the names of at least 61 000 store paths."""

_ROOT_DATA_BLOCK: Final = 2
_DEVICE_SLOT: Final = 9
"""The device table follows the superblock: 9 records of 128 bytes are before it."""


_MODES: Final = {
    Kind.REGULAR: (ondisk.FILE_MODE, ondisk.EXECUTABLE_MODE),
    Kind.DIRECTORY: (ondisk.DIRECTORY_MODE,),
    Kind.SYMLINK: (ondisk.LINK_MODE,),
}


class Root(NamedTuple):
    """One store path: its name in the root, and the inode that it is."""

    name: bytes
    nid: int
    kind: Kind


def root_of(name: bytes, part: bytes | memoryview, block: int, *, shared_block: int | None = None) -> Root:
    """Tell what a ready part at ``block`` is in the root, under ``name``; ``shared_block`` as it was made with.

    FormatError if it begins with no inode that a store path can be.
    """
    mode = COMPACT.unpack_from(part)[1] if len(part) >= COMPACT.size else None
    kind = next((kind for kind, modes in _MODES.items() if mode in modes), None)
    if kind is None:
        raise FormatError("part", offset=0, expected="a root that is a file, a directory or a symlink", found=f"{mode}")
    if shared_block is not None and kind is not Kind.DIRECTORY:
        block = shared_block
    return Root(name, block * SLOTS_PER_BLOCK, kind)


def head(roots: Iterable[Root], *, inodes: int, nar_bytes: int) -> bytes:
    """Write what is before FIRST_PART_BLOCK; a UsageError if there are too many store paths.

    ``inodes`` and ``nar_bytes`` are what statfs shows: how many there are, and a full disk of that size.
    """
    roots = sorted(roots)
    links = 2 + sum(1 for root in roots if root.kind is Kind.DIRECTORY)
    directory = pack(
        [root.name for root in roots],
        [root.nid for root in roots],
        [ondisk.TYPES[root.kind] for root in roots],
        own=ROOT_NID,
        parent=ROOT_NID,
    )
    blocks = _ROOT_DATA_BLOCK + data_slots(links, len(directory))[1]
    if blocks > FIRST_PART_BLOCK:
        raise UsageError(f"{len(roots)} store paths are too many for one erofs mount: use --frontend tree")
    out = bytearray(blocks * BLOCK_BYTES)
    ondisk.SUPERBLOCK.pack_into(
        out,
        ondisk.SUPERBLOCK_AT,
        ondisk.MAGIC,
        BLOCK_BYTES.bit_length() - 1,
        ROOT_NID,
        inodes,
        ondisk.BUILD_TIME,
        ondisk.CHUNKED_FILE | ondisk.DEVICE_TABLE,
        1,
        _DEVICE_SLOT,
    )
    ondisk.DEVICE.pack_into(out, _DEVICE_SLOT * ondisk.DEVICE.size, -(-nar_bytes // BLOCK_BYTES))
    write_with_data(
        out,
        ROOT_NID * SLOT_BYTES,
        ondisk.DIRECTORY_MODE,
        links,
        directory,
        full_at=_ROOT_DATA_BLOCK * BLOCK_BYTES,
        block=_ROOT_DATA_BLOCK,
    )
    return bytes(out)
