"""Pinned: the closures that stay in a cache, and how much of them is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from narfs.cache.chunk_cache import ChunkCache
    from narfs.cache.eviction import Evictor
    from narfs.cache.means import Means
    from narfs.cache.pins import Pin, PinnedPath

_SHARE: Final = 7 / 8
"""Of the budget that may be pinned: what is read beside that needs room too, and maps and indexes take 1 %."""


class Pinned:
    """Of one cache; ``pins`` are the pins themselves."""

    def __init__(self, cache: ChunkCache, means: Means, evictor: Evictor) -> None:
        self.pins = means.pins
        self._cache = cache
        self._means = means
        self._evictor = evictor

    @property
    def lost(self) -> int:
        """How often something of the cache went that was not evicted."""
        return self._means.counters.lost

    def most_bytes(self) -> int:
        """Say how much of NARs may be pinned: what budget and disk have room for; CacheUnusable."""
        try:
            room = self._evictor.room()
        except OSError as error:
            raise self._means.health.failed(error) from error
        return max(0, min(int(room.budget * _SHARE), room.free + room.used - room.keep_free))

    async def keep(self, pin: Pin) -> None:
        """Evict nothing of a closure any more; CacheUnusable."""
        self._means.health.require()
        try:
            await trio.to_thread.run_sync(self.pins.write, pin)
        except OSError as error:
            raise self._means.health.failed(error) from error
        self.pins.add(pin)

    async def let_go(self, name: str) -> None:
        """Let a closure be evicted again."""
        self.pins.remove(name)
        await trio.to_thread.run_sync(self.pins.erase, name)

    async def incomplete(self, pin: Pin) -> list[PinnedPath]:
        """Give the paths of a pin of whose NARs something is missing."""
        found = await self._cache.load_all([(path.narinfo.nar_hash, path.domain) for path in pin.paths])
        return [path for path, nar in zip(pin.paths, found, strict=True) if nar is None or not nar.is_complete]

    def here_bytes(self, key: bytes) -> int:
        """Say how much of a NAR is here or is passing, about."""
        if (live := self._means.live.get(key)) is not None:
            return sum(live.sizes().values())
        passing = [draft.written_bytes() for draft in self._means.drafts if draft.key == key]
        return max([*passing, self._means.catalog.size_of(key)])
