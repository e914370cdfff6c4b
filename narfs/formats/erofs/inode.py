"""Inodes: how many slots one takes, and writing it with what is directly behind it."""

from __future__ import annotations

from typing import Final

from narfs.formats.erofs.ondisk import (
    AS_EXTENDED,
    BLOCK_BYTES,
    BUILD_TIME,
    CHUNK,
    CHUNK_FORMAT,
    CHUNKED,
    COMPACT,
    EXTENDED,
    INLINE,
    PLAIN,
    SLOT_BYTES,
)

_DEVICE: Final = 1
_INLINE_BYTES: Final = BLOCK_BYTES - EXTENDED.size
"""The most that is put behind an inode, to be in one block with it."""
_COMPACT_SIZE_END: Final = 1 << 32
_COMPACT_LINKS_END: Final = 1 << 16


def file_slots(size: int) -> int:
    """Count the slots of a regular file: compact or extended, and the index of its only chunk."""
    return 1 if not size else 2 if size < _COMPACT_SIZE_END else 3


def write_file(out: bytearray, at: int, mode: int, size: int, slab_block: int) -> None:
    """Write a regular file whose contents begin at ``slab_block``."""
    if not size:
        COMPACT.pack_into(out, at, PLAIN, mode, 1, 0, 0)
    elif size < _COMPACT_SIZE_END:
        COMPACT.pack_into(out, at, CHUNKED, mode, 1, size, CHUNK_FORMAT)
        CHUNK.pack_into(out, at + COMPACT.size, _DEVICE, slab_block)
    else:
        EXTENDED.pack_into(out, at, CHUNKED | AS_EXTENDED, mode, size, CHUNK_FORMAT, BUILD_TIME, 1)
        CHUNK.pack_into(out, at + EXTENDED.size, _DEVICE, slab_block)


def data_slots(links: int, size: int) -> tuple[int, int]:
    """Count the slots of a directory or symlink of so many bytes, and the blocks it needs besides."""
    full, inline = _split(size)
    return _inode_bytes(links) // SLOT_BYTES + -(-inline // SLOT_BYTES), full


def write_with_data(out: bytearray, at: int, mode: int, links: int, data: bytes, *, full_at: int, block: int) -> int:
    """Write a directory or symlink, its full blocks at byte ``full_at``, ``block`` of the image; give their number."""
    full, inline = _split(len(data))
    format_ = INLINE if inline else PLAIN
    if links < _COMPACT_LINKS_END:
        COMPACT.pack_into(out, at, format_, mode, links, len(data), block)
    else:
        EXTENDED.pack_into(out, at, format_ | AS_EXTENDED, mode, len(data), block, BUILD_TIME, links)
    at += _inode_bytes(links)
    out[at : at + inline] = data[len(data) - inline :]
    out[full_at : full_at + len(data) - inline] = data[: len(data) - inline]
    return full


def _inode_bytes(links: int) -> int:
    return COMPACT.size if links < _COMPACT_LINKS_END else EXTENDED.size


def _split(size: int) -> tuple[int, int]:
    """How many blocks, and how many bytes behind the inode: the last piece, if it has room there."""
    full, inline = divmod(size, BLOCK_BYTES)
    return (full, inline) if inline <= _INLINE_BYTES else (full + 1, 0)
