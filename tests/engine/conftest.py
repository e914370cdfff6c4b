from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.cache.chunk_cache import ChunkCache
from narfs.engine.store import Store, open_store, open_workers
from narfs.engine.trust import TrustPolicy, Verify
from narfs.formats.listing import Kind
from narfs.formats.signature import PublicKeys
from narfs.lake.index_stores import IndexStores
from narfs.lake.settings import LakeSettings
from narfs.lake.upstreams import open_lakes
from narfs.offsets import NarOffset
from tests.support.lakes import Lake
from tests.support.server import Server, serve
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from narfs.engine.accessor import NarAccessor

GIB = 1 << 30
NO_KEYS = PublicKeys()


@dataclass(frozen=True, slots=True)
class House:
    """One lake, the keys that count, and where the cache is; ``open`` starts an engine over it."""

    lake: Lake
    cache_directory: Path

    def open(
        self,
        *urls: str,
        verify: Verify = Verify.STRICT,
        cached: bool = True,
        budget_bytes: int = GIB,
        keys: str | None = None,
        index_keys: PublicKeys = NO_KEYS,
        index_stores: Sequence[str] = (),
    ) -> AbstractAsyncContextManager[Store]:
        trusted = PublicKeys.parse(self.lake.trusted_public_keys if keys is None else keys)
        policy = TrustPolicy(trusted, verify, index_keys)
        urls = urls or (self.lake.url,)
        return self._open(urls, policy, cached=cached, budget_bytes=budget_bytes, index_stores=index_stores)

    @asynccontextmanager
    async def _open(
        self,
        urls: tuple[str, ...],
        policy: TrustPolicy,
        *,
        cached: bool,
        budget_bytes: int,
        index_stores: Sequence[str],
    ) -> AsyncIterator[Store]:
        settings = LakeSettings(attempts=2)
        async with trio.open_nursery() as nursery, AsyncExitStack() as opened:
            lakes = await opened.enter_async_context(open_lakes(urls, settings))
            stores = await opened.enter_async_context(open_lakes(index_stores, settings))
            cache = None
            if cached:
                cache = await ChunkCache.open(
                    self.cache_directory, budget_bytes=budget_bytes, keep_free_bytes=0, nursery=nursery
                )
                opened.push_async_callback(cache.aclose)
            workers = await opened.enter_async_context(open_workers(2))
            yield await opened.enter_async_context(
                open_store(lakes, cache, policy, workers, index_stores=IndexStores(stores.lakes))
            )


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(Lake(tmp_path / "lake"), tmp_path / "cache")


@pytest.fixture
async def server(house: House, nursery: trio.Nursery) -> Server:
    """Serve the house's lake over HTTP."""
    started: Server = await nursery.start(serve, house.lake.directory)
    return started


async def read_tree(accessor: NarAccessor, node: int = 0) -> Tree:
    """Read everything below a node, as a mount would."""
    found = await accessor.node(node)
    if found.kind is Kind.REGULAR:
        return File(await accessor.read(found.nar_offset, found.size), found.executable)
    if found.kind is Kind.SYMLINK:
        return Symlink(await accessor.target(node))
    tree: dict[bytes, Tree] = {}
    for child in await accessor.children(node):
        name = await accessor.name(child)
        assert await accessor.child(node, name) == child
        tree[name] = await read_tree(accessor, child)
    return tree


async def contents(accessor: NarAccessor, *names: bytes) -> bytes:
    """Read one file."""
    node = 0
    for name in names:
        child = await accessor.child(node, name)
        assert child is not None
        node = child
    found = await accessor.node(node)
    return await accessor.read(NarOffset(found.nar_offset), found.size)


async def lose(accessor: NarAccessor, chunks: range) -> None:
    """Let the cache lose some chunks, as eviction does."""
    assert accessor._contents is not None
    cached = accessor._contents.cached
    assert cached is not None
    for chunk in chunks:
        cached._states[chunk] = 0
