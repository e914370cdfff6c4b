"""NARs for the stories about the cache, and a cache to put them in."""

from __future__ import annotations

import hashlib
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from narfs.cache.chunk_cache import CachedNar, ChunkCache
from narfs.formats.index import NarIndex
from narfs.formats.nar import NarIndexer
from narfs.offsets import ChunkGrid, NarOffset
from tests.support.trees import File, dump

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHUNK = 4096
MIB = 1024 * 1024
GIB = 1024 * MIB


def dice(seed: int | str) -> random.Random:
    """Give the same chances in every run."""
    return random.Random(seed)  # noqa: S311 - nobody is to be surprised by them


@dataclass(frozen=True)
class Nar:
    """A NAR and its index."""

    data: bytes
    index: NarIndex

    @property
    def nar_hash(self) -> bytes:
        return self.index.nar_hash

    def chunk(self, number: int) -> bytes:
        span = self.index.grid.span(number)
        return self.data[span.start : span.end]


def make_nar(size: int, *, seed: int = 0, chunk_bytes: int = CHUNK) -> Nar:
    """A NAR of exactly ``size`` bytes (a multiple of 8, at least 120) with one file of noise."""
    tree = File(dice(seed).randbytes(size - 112))
    data = dump(tree)
    assert len(data) == size
    indexer = NarIndexer(size)
    indexer.feed(data)
    grid = ChunkGrid(size, chunk_bytes)
    spans = [grid.span(chunk) for chunk in range(grid.count)]
    digests = b"".join(hashlib.sha256(data[span.start : span.end]).digest() for span in spans)
    return Nar(data, NarIndex(hashlib.sha256(data).digest(), size, indexer.finish(), grid, digests, None))


@asynccontextmanager
async def opened(
    directory: Path,
    *,
    budget_bytes: int = GIB,
    keep_free_bytes: int = 0,
    threads: trio.CapacityLimiter | None = None,
) -> AsyncIterator[ChunkCache]:
    async with trio.open_nursery() as nursery:
        cache = await ChunkCache.open(
            directory, budget_bytes=budget_bytes, keep_free_bytes=keep_free_bytes, nursery=nursery, threads=threads
        )
        try:
            yield cache
        finally:
            await cache.aclose()


async def keep(cache: ChunkCache, nar: Nar, *, random_access: bool = False) -> CachedNar:
    """Do what a pass does: fill a draft, commit it."""
    draft = await cache.begin(nar.nar_hash, len(nar.data))
    draft.path.write_bytes(nar.data)
    return await draft.commit(nar.index, random_access=random_access)


async def read_all(cached: CachedNar) -> bytes | None:
    return await cached.read(NarOffset(0), cached.index.nar_size)
