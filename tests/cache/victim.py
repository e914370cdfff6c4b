"""A process that works with a cache until it is killed, and says on standard output what it has done."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from narfs.offsets import NarOffset
from tests.cache.nars import CHUNK, dice, keep, make_nar, opened

if TYPE_CHECKING:
    from narfs.cache.chunk_cache import ChunkCache
    from tests.cache.nars import Nar

__all__ = ["BUDGET", "CHUNK", "NARS", "read_through"]

NARS = [make_nar(size * CHUNK, seed=size) for size in (120, 3, 40, 77, 1)]
BUDGET = 180 * CHUNK


async def read_through(cache: ChunkCache, nar: Nar) -> None:
    """Have all of a NAR in the cache, chunk by chunk."""
    cached = await cache.keep_index(nar.index, random_access=True)
    for chunk in cached.missing(NarOffset(0), len(nar.data)):
        await cached.write(chunk, nar.chunk(chunk))


async def work(directory: Path, *, pause: bool) -> None:
    """Pass, fetch and drop NARs, more than the budget holds, in an order of chance; ``pause`` after the first."""
    chance = dice(directory.name)
    async with opened(directory, budget_bytes=BUDGET) as cache:
        while True:
            nar = chance.choice(NARS)
            if chance.random() < 0.5:
                await keep(cache, nar, random_access=chance.random() < 0.5)
            else:
                await read_through(cache, nar)
            print("kept", NARS.index(nar), flush=True)  # noqa: T201 - the parent reads it
            if pause:
                await trio.sleep_forever()
            if chance.random() < 0.1 and (cached := cache.nar(nar.nar_hash)) is not None:
                cached.drop()
                print("dropped", flush=True)  # noqa: T201
            if chance.random() < 0.3:
                await cache.catalog.flush()


if __name__ == "__main__":
    trio.run(partial(work, Path(sys.argv[1]), pause=sys.argv[2:] == ["pause"]))
