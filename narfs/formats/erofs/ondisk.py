"""The records of EROFS as they are on disk, little-endian, as far as a View needs them (Linux: fs/erofs/erofs_fs.h)."""

from __future__ import annotations

import stat
from struct import Struct
from typing import Final

from narfs.formats.listing import Kind

BLOCK_BYTES: Final = 4096
SLOT_BYTES: Final = 32
"""The unit of nids: inode ``nid`` lies at byte ``32 * nid`` of the image."""
SLOTS_PER_BLOCK: Final = BLOCK_BYTES // SLOT_BYTES
BLOCKS_END: Final = 1 << 32
"""Block addresses have 32 bits: 16 TiB of image, 16 TiB of slab."""

ROOT_NID: Final = SLOTS_PER_BLOCK
"""The root's inode opens block 1 of every image. Its nid has to be below 65536."""

BUILD_TIME: Final = 1
"""Second 1, what Nix gives its store."""

SUPERBLOCK: Final = Struct("<I8xBxHQQ48xI2xHH38x")
"""Magic, log2 of the block size, root, inodes, build time, features, devices, place of their table in its records."""
SUPERBLOCK_AT: Final = 1024
MAGIC: Final = 0xE0F5_E1E2
CHUNKED_FILE: Final = 0x04
DEVICE_TABLE: Final = 0x08

DEVICE: Final = Struct("<64xI60x")
"""Blocks. Its unified address stays 0, because chunks name their device."""

COMPACT: Final = Struct("<H2xHHI4xI12x")
"""Format, mode, links, size, place."""
EXTENDED: Final = Struct("<H2xH2xQI12xQ4xI16x")
"""Format, mode, size, place, mtime, links."""
CHUNK: Final = Struct("<2xHI")
"""Device, block."""
DIRENT: Final = Struct("<QHBx")
"""Nid, place of the name in its block, file type."""

# Formats: bit 0 extended, then how the data lie.
PLAIN: Final = 0 << 1
INLINE: Final = 2 << 1
CHUNKED: Final = 4 << 1
AS_EXTENDED: Final = 1

CHUNK_BITS: Final = 31
"""log2 of blocks in a chunk, the most there is: 8 TiB, so one index is enough for every file."""
CHUNK_FORMAT: Final = 0x20 | CHUNK_BITS
FILE_BYTES_END: Final = BLOCK_BYTES << CHUNK_BITS

REGULAR_TYPE: Final = 1
DIRECTORY_TYPE: Final = 2
SYMLINK_TYPE: Final = 7
TYPES: Final = {Kind.REGULAR: REGULAR_TYPE, Kind.DIRECTORY: DIRECTORY_TYPE, Kind.SYMLINK: SYMLINK_TYPE}

FILE_MODE: Final = stat.S_IFREG | 0o444
EXECUTABLE_MODE: Final = stat.S_IFREG | 0o555
DIRECTORY_MODE: Final = stat.S_IFDIR | 0o555
LINK_MODE: Final = stat.S_IFLNK | 0o777
