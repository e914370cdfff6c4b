"""Session: lakes and Store of one Config, over a Household: what all sessions of a process share, cache and workers."""

from __future__ import annotations

import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import trio

from narfs.cache.chunk_cache import ChunkCache
from narfs.cache.lots import Lots
from narfs.daemon.domains import Domains, identities
from narfs.daemon.event_loop import most_telling
from narfs.engine.ahead.governor import Governor
from narfs.engine.closure import describe_all
from narfs.engine.fresh import Fresh
from narfs.engine.store import open_store, open_workers
from narfs.engine.trust import TrustPolicy
from narfs.errors import CacheHeld, CacheUnusable, Unavailable
from narfs.lake.account import Account
from narfs.lake.index_stores import IndexStores
from narfs.lake.line import Line
from narfs.lake.upstreams import open_lakes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from narfs.daemon.config import Config
    from narfs.daemon.selection import PathName, Selection
    from narfs.daemon.sizes import Size
    from narfs.engine.accessor import NarAccessor
    from narfs.engine.means import Described
    from narfs.engine.store import Store
    from narfs.engine.workers import Workers
    from narfs.formats.store_path import StorePath
    from narfs.lake.binary_cache import BinaryCache
    from narfs.lake.upstreams import Upstreams

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Household:
    """What is opened once in a process. ``cache`` is None when everything is served uncached."""

    cache: ChunkCache | None
    cache_trouble: str | None
    """Why there is no cache, if it was to be one and failed."""
    workers: Workers
    lots: Lots
    line: Line | None = None
    """The bandwidth that all share."""
    governor: Governor = field(default_factory=Governor)
    """When work ahead of readers may begin."""
    fresh: Fresh = field(default_factory=Fresh)
    """What came of it a moment ago."""

    def account(self, name: str, config: Config, *, bandwidth: Size | None = None, by_path: bool = True) -> Account:
        """Open an account for one View; ``bandwidth`` is what it has at most for itself.

        ``by_path``: it tells what came of each store path, and so grows with them.
        """
        lanes = [] if bandwidth is None else [Line(bandwidth.bytes).lane()]
        if self.line is not None:
            lanes.append(self.line.lane(config.bandwidth_share))
        quota_bytes = None if config.fetch_bytes is None else config.fetch_bytes.bytes
        return Account(name, quota_bytes=quota_bytes, lanes=lanes, by_path=by_path)


@dataclass(frozen=True, slots=True)
class Session:
    """What serves, open."""

    config: Config
    domains: Domains
    household: Household
    lakes: Upstreams
    index_lakes: Upstreams
    profile_store: BinaryCache | None
    store: Store

    @property
    def cache(self) -> ChunkCache | None:
        """The household's."""
        return self.household.cache

    @property
    def index_stores(self) -> IndexStores:
        """The store's."""
        return self.store.means.index_stores

    async def introduce(self) -> None:
        """Let all stores say who they are; UsageError if one is for another store directory. One may be down."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.lakes.introduce)
            nursery.start_soon(self.index_lakes.introduce)

    async def describe(self, name: PathName) -> Described:
        """Give the trusted narinfo of what somebody named."""
        if name.path is not None:
            return await self.store.describe(name.path)
        return await self.store.describe_by_hash(name.hash_part)

    async def members(
        self, selection: Selection, *, unseal: bool = False, on_tree: Callable[[NarAccessor], None] = lambda _: None
    ) -> list[Described]:
        """Give all narinfos of a closed View, and ask for its sealed indexes beside; NotFound lists what is missing.

        ``on_tree`` is told what has an index now.
        """
        exact = await self._paths(selection.paths)
        whole = await self._paths(selection.closures)
        found: dict[StorePath, Described] = {}
        for paths, closure in ((exact, False), (whole, True)):
            members = await describe_all(
                self.store,
                paths,
                closure=closure,
                allow_missing=selection.allow_missing,
                unseal=unseal,
                on_tree=on_tree,
            )
            found |= {described.narinfo.path: described for described in members}
        return list(found.values())

    async def accessors(self, members: Sequence[Described]) -> list[tuple[StorePath, NarAccessor]]:
        """Give the NARs of a closed View's members."""
        paths = [described.narinfo.path for described in members]
        return list(zip(paths, await self.store.accessors(members), strict=True))

    async def _paths(self, names: Iterable[PathName]) -> list[StorePath]:
        return [name.path or (await self.describe(name)).narinfo.path for name in names]


@asynccontextmanager
async def open_household(
    config: Config, *, if_held: Literal["refuse", "uncached"], cache_needed: bool = False
) -> AsyncIterator[Household]:
    """Open it; a cache that fails is done without, unless it is needed: CacheUnusable.

    CacheHeld if it is another's and that is refused.
    """
    async with AsyncExitStack() as opened:
        cache, trouble = await _open_cache(config, opened, if_held, needed=cache_needed)
        workers = await opened.enter_async_context(open_workers(os.cpu_count() or 1))
        line = None if config.bandwidth is None else Line(config.bandwidth.bytes)
        yield Household(cache, trouble, workers, Lots(None if cache is None else cache.catalog), line)


@asynccontextmanager
async def open_session_in(
    household: Household, config: Config, domains: Domains | None = None
) -> AsyncIterator[Session]:
    """Open the lakes of ``config``, and a Store over them; without ``domains`` they are the process's own."""
    domains, settings = domains or Domains.of(config, config), config.lake_settings
    trust = TrustPolicy(config.trusted_public_keys, config.verify, config.trusted_index_keys)
    async with (
        open_lakes(config.store, settings, domains.domains) as lakes,
        open_lakes(config.index_stores, settings) as index_lakes,
        open_lakes([config.profile_store] if config.profile_store else [], settings) as profile_lakes,
        open_store(
            lakes,
            household.cache,
            trust,
            household.workers,
            index_stores=IndexStores(index_lakes.lakes, config.negative_ttl_s),
            governor=household.governor,
            fresh=household.fresh,
        ) as store,
    ):
        if identities(config) != domains.identities:  # a netrc file was written between two looks at it
            raise Unavailable("the credentials of the stores changed while they were opened; try again")
        yield Session(config, domains, household, lakes, index_lakes, _known(profile_lakes, lakes), store)


def _known(wanted: Upstreams, lakes: Upstreams) -> BinaryCache | None:
    """Give the one wanted lake, if there is one: as it is open already, if it is, for then it has introduced itself."""
    for lake in wanted.lakes:
        return next((one for one in lakes.lakes if one.url == lake.url), lake)
    return None


@asynccontextmanager
async def open_session(
    config: Config, *, if_held: Literal["refuse", "uncached"], cache_needed: bool = False
) -> AsyncIterator[Session]:
    """Open everything for one Config."""
    try:
        async with (
            open_household(config, if_held=if_held, cache_needed=cache_needed) as household,
            open_session_in(household, config) as session,
        ):
            with household.account("this process", config).paying():
                yield session
    except BaseExceptionGroup as group:
        # The nurseries inside are no business of the caller's: he gets the failure that he can catch by name.
        raise most_telling(group) from group


async def _open_cache(
    config: Config, opened: AsyncExitStack, if_held: str, *, needed: bool
) -> tuple[ChunkCache | None, str | None]:
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
        if needed:
            raise CacheUnusable(str(error)) from error
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
