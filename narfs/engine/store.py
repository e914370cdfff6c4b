"""Store: from a store path to its trusted narinfo, and to the accessor of its NAR."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import trio

from narfs.engine import narinfos
from narfs.engine.accessor import NarAccessor
from narfs.engine.ahead.governor import Governor
from narfs.engine.flights import Flights
from narfs.engine.fresh import Fresh
from narfs.engine.means import Counters, Described, Means
from narfs.engine.workers import Workers
from narfs.errors import NotFound
from narfs.lake.index_stores import IndexStores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from narfs.cache.chunk_cache import CachedNar, ChunkCache
    from narfs.engine.trust import TrustPolicy
    from narfs.formats.store_path import StorePath
    from narfs.lake.upstreams import Upstreams


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Counts since the start (``Counters``), and what is under way now."""

    counters: Counters
    accessors: int
    describing: int


class Store:
    """Everything the lakes have, verified. Made by ``open_store``."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._describing: Flights[str, Described] = Flights(means.nursery)
        self._accessors: dict[tuple[bytes, int], NarAccessor] = {}

    @property
    def means(self) -> Means:
        """What the engine works with."""
        return self._means

    def warm_up(self) -> None:
        """Start what the first pass needs (0.1 s in another process) before somebody waits for it."""
        self._means.workers.warm_up()

    async def describe(self, path: StorePath) -> Described:
        """Give the trusted narinfo of ``path``.

        NotFound when every lake says so, also when the hash is there under another name; Untrusted, Unavailable.
        """
        described = await self.describe_by_hash(path.hash_part)
        if described.narinfo.path != path:
            raise NotFound(
                f"{path.base_name}: the lake has this hash under the name {described.narinfo.path.base_name}"
            )
        return described

    def recall(self, path: StorePath) -> Described | None:
        """Give what ``describe`` would give without asking a lake: 60 µs, more if a signature must be checked."""
        hash_part = path.hash_part
        described = self._means.described.get(hash_part) or narinfos.recall(self._means, hash_part)
        if described is None or described.narinfo.path != path:
            return None
        self._means.described[hash_part] = described
        return described

    async def describe_by_hash(self, hash_part: str) -> Described:
        """Give the trusted narinfo of the one path with this hash part (32 characters)."""
        if (known := self._means.described.get(hash_part)) is not None:
            return known
        return await self._describing.result(hash_part, lambda: self._describe(hash_part))

    async def accessor(self, described: Described) -> NarAccessor:
        """Give the accessor of the NAR; nothing is fetched by this. Paths with the same key and NarSize share one.

        The NarSize of a content-addressed path is not signed. So a wrong one fails by itself, whatever the cache has.
        """
        return (await self.accessors([described]))[0]

    async def accessors(self, members: Sequence[Described]) -> list[NarAccessor]:
        """Give those of many NARs: what the cache has of them is read at the same time."""
        unknown = {key: each for each in members if (key := _identity(each)) not in self._accessors}
        if unknown and (cache := self._means.cache) is not None:
            nars = [(each.narinfo.nar_hash, each.domain) for each in unknown.values()]
            for (key, each), cached in zip(unknown.items(), await cache.load_all(nars), strict=True):
                self._add(key, each, cached)
        for key, each in unknown.items():
            self._add(key, each, None)
        return [self._accessors[_identity(each)] for each in members]

    def _add(self, key: tuple[bytes, int], described: Described, cached: CachedNar | None) -> None:
        if key in self._accessors:
            return
        if cached is not None and not self._means.trust.accepts_index(cached.index):
            cached.drop()
            cached = None
        if cached is not None and cached.index.nar_size != described.narinfo.nar_size:
            cached = None
        self._accessors[key] = NarAccessor(self._means, described, cached)

    async def find(self, path: StorePath) -> NarAccessor:
        """Give the accessor of a path; raises as ``describe`` does."""
        return await self.accessor(await self.describe(path))

    def absent_for(self, path: StorePath) -> float:
        """Give the seconds for which a NotFound of this path may be relied on."""
        return self._means.upstreams.absent_for(path.hash_part)

    def statistics(self) -> StoreStatistics:
        """Count."""
        return StoreStatistics(Counters(**asdict(self._means.counters)), len(self._accessors), len(self._describing))

    async def _describe(self, hash_part: str) -> Described:
        described = narinfos.recall(self._means, hash_part) or await narinfos.ask(self._means, hash_part)
        self._means.described[hash_part] = described
        return described


def _identity(described: Described) -> tuple[bytes, int]:
    return described.key, described.narinfo.nar_size


@asynccontextmanager
async def open_workers(count: int) -> AsyncIterator[Workers]:
    """Open a pool of worker processes, which several stores may share; none is started before it has work."""
    async with trio.open_nursery() as nursery:
        workers = Workers(nursery, count)
        try:
            yield workers
        finally:
            workers.close()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_store(
    upstreams: Upstreams,
    cache: ChunkCache | None,
    trust: TrustPolicy,
    workers: Workers,
    *,
    index_stores: IndexStores | None = None,
    governor: Governor | None = None,
    fresh: Fresh | None = None,
) -> AsyncIterator[Store]:
    """Open an engine over what the caller closes afterwards; all its work ends with the block."""
    async with trio.open_nursery() as nursery:
        try:
            yield Store(
                Means(
                    nursery,
                    upstreams,
                    cache,
                    workers,
                    trust,
                    index_stores or IndexStores(),
                    governor=governor or Governor(),
                    fresh=Fresh() if fresh is None else fresh,
                )
            )
        finally:
            nursery.cancel_scope.cancel()
