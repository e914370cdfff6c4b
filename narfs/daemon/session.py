"""Session: lakes, cache and Store of one Config, opened in this order and closed in the other."""

from __future__ import annotations

import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import trio

from narfs.cache.chunk_cache import ChunkCache
from narfs.daemon.event_loop import most_telling
from narfs.engine.closure import describe_all
from narfs.engine.store import open_store
from narfs.engine.trust import TrustPolicy
from narfs.errors import CacheHeld, CacheUnusable
from narfs.lake.settings import LakeSettings
from narfs.lake.upstreams import open_lakes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from narfs.daemon.config import Config
    from narfs.daemon.selection import PathName, Selection
    from narfs.engine.means import Described
    from narfs.engine.store import Store
    from narfs.formats.store_path import StorePath
    from narfs.lake.upstreams import Upstreams

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """What serves, open. ``cache`` is None when everything is served uncached."""

    config: Config
    lakes: Upstreams
    cache: ChunkCache | None
    store: Store
    cache_trouble: str | None
    """Why there is no cache, if it was to be one and failed."""

    async def describe(self, name: PathName) -> Described:
        """Give the trusted narinfo of what somebody named."""
        if name.path is not None:
            return await self.store.describe(name.path)
        return await self.store.describe_by_hash(name.hash_part)

    async def members(self, selection: Selection) -> list[Described]:
        """Give all narinfos of a closed View; NotFound lists what is missing."""
        exact = await self._paths(selection.paths)
        whole = await self._paths(selection.closures)
        missing = selection.allow_missing
        found = await describe_all(self.store, exact, closure=False, allow_missing=missing)
        found += await describe_all(self.store, whole, closure=True, allow_missing=missing)
        return list({described.narinfo.path: described for described in found}.values())

    async def _paths(self, names: Iterable[PathName]) -> list[StorePath]:
        return [name.path or (await self.describe(name)).narinfo.path for name in names]


@asynccontextmanager
async def open_session(config: Config, *, if_held: Literal["refuse", "uncached"]) -> AsyncIterator[Session]:
    """Open everything; a cache that fails is done without. CacheHeld if it is another's and that is refused."""
    settings = LakeSettings(
        stall_deadline_s=config.stall_deadline_s,
        negative_ttl_s=config.negative_ttl_s,
        netrc_file=config.netrc_file,
        ssl_cert_file=config.ssl_cert_file,
    )
    trust = TrustPolicy(config.trusted_public_keys, config.verify, config.trusted_index_keys)
    try:
        async with AsyncExitStack() as opened:
            lakes = await opened.enter_async_context(open_lakes(config.store, settings))
            cache, trouble = await _open_cache(config, opened, if_held)
            store = await opened.enter_async_context(open_store(lakes, cache, trust, worker_count=os.cpu_count() or 1))
            yield Session(config, lakes, cache, store, trouble)
    except BaseExceptionGroup as group:
        # The nurseries inside are no business of the caller's: he gets the failure that he can catch by name.
        raise most_telling(group) from group


async def _open_cache(config: Config, opened: AsyncExitStack, if_held: str) -> tuple[ChunkCache | None, str | None]:
    """Take the cache directory, or say why it cannot be used."""
    nursery = await opened.enter_async_context(trio.open_nursery())
    try:
        disk_bytes = _disk_bytes(config.cache_dir)
        cache = await ChunkCache.open(
            config.cache_dir,
            budget_bytes=config.cache_bytes(disk_bytes),
            keep_free_bytes=config.keep_free.of(disk_bytes),
            nursery=nursery,
        )
    except CacheHeld as held:
        if if_held == "uncached":
            return None, None
        raise CacheHeld(f"{held}; unmount that, or give another --cache-dir", pid=held.pid) from held
    except (CacheUnusable, OSError) as error:
        trouble = f"{error}; everything is fetched anew each time it is read"
        log.warning("%s", trouble)
        return None, trouble
    opened.push_async_callback(cache.aclose)
    return cache, None


def _disk_bytes(directory: Path) -> int:
    """Give the size of the disk that ``directory`` is or will be on."""
    while not directory.exists():
        directory = directory.parent
    disk = os.statvfs(directory)
    return disk.f_blocks * disk.f_frsize
