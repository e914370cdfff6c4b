"""Parts: ready parts of EROFS images, beside the NARs they describe. Evicted with them.

A file is a header and the part. It is used if it was made for the lot that its NAR has now: whose key names the tree it
shows. The crc32 is against a disk that rots, as that of the index is; nobody else writes here.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from narfs.cache.budget import INDEX
from narfs.cache.disk import Descriptor, remove_files, replace_file
from narfs.formats import base32

if TYPE_CHECKING:
    from narfs.cache.means import Means
    from narfs.formats.erofs.lot import Lot

_log = logging.getLogger(__name__)

_MAGIC: Final = b"narfspar"
_HEADER: Final = struct.Struct("=8s32sQQI")
"""Magic, key of the lot, block of images and of slabs, crc32 of the part."""


class Parts:
    """Those of one cache directory."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def load(self, nar_key: bytes, key: bytes, lot: Lot) -> memoryview | None:
        """Give the part for ``lot``, if there is one and it is good. Blocks: 20 µs, and 1 ms for each MB."""
        try:
            file = Descriptor(self._means.places.names(nar_key).part_file, os.O_RDONLY)
            data = file.read(0, os.fstat(file.fd).st_size)
        except OSError:
            return None
        part = memoryview(data)[_HEADER.size :]
        if data[: _HEADER.size] == _header(key, lot, part):
            return part
        return None

    async def check(self, nar_key: bytes) -> str | None:
        """Drop the part of a NAR, if there is one and it is wrong; say what was."""
        path = self._means.places.part(nar_key)
        try:
            data = await trio.to_thread.run_sync(path.read_bytes, limiter=self._means.threads)
        except FileNotFoundError:
            return None
        except OSError as error:
            wrong: str | None = str(error)
        else:
            wrong = self._wrong(memoryview(data))
        if wrong is not None:
            await trio.to_thread.run_sync(remove_files, [path], limiter=self._means.threads)
        return wrong

    def _wrong(self, data: memoryview) -> str | None:
        if len(data) < _HEADER.size:
            return "shorter than its header"
        magic, key, block, slab_block, check = _HEADER.unpack_from(data)
        if magic != _MAGIC or zlib.crc32(data[_HEADER.size :]) != check:
            return "differs from its checksum"
        lot = self._means.catalog.lot(key)
        if lot is None or (lot.block, lot.slab_block) != (block, slab_block):
            return "made for another place than its NAR has"
        return None

    async def keep(self, nar_key: bytes, key: bytes, lot: Lot, part: bytes) -> bool:
        """Keep a part, if its NAR is in the cache and the disk takes it; say whether the NAR is."""
        means = self._means
        nar = means.live.get(nar_key)
        if nar is None or nar.retired or nar_key in means.changing or not means.health.usable:
            return False
        data = _header(key, lot, part) + part
        path, unfinished = means.places.part(nar_key), means.places.new_scratch(nar_key)
        replace = partial(replace_file, path, data, unfinished, durable=False)
        try:
            await trio.to_thread.run_sync(replace, limiter=means.threads)
            if means.live.get(nar_key) is not nar:  # evicted meanwhile, and this came too late to go with it
                await trio.to_thread.run_sync(path.unlink, True, limiter=means.threads)
            else:
                means.catalog.grow(nar_key, INDEX, len(data))
        except (OSError, MemoryError, RuntimeError) as error:  # the last: no thread to be had
            _log.debug("cache: part of %s: %s", base32.encode(nar_key), error)
        return True


def _header(key: bytes, lot: Lot, part: bytes | memoryview) -> bytes:
    return _HEADER.pack(_MAGIC, key, lot.block, lot.slab_block, zlib.crc32(part))
