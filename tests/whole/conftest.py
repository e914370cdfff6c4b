"""The whole house in one process: a lake that can lie, the real engine, a real mount; the programs are threads."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.cache.chunk_cache import ChunkCache
from narfs.engine.closure import describe_all
from narfs.engine.store import Store, open_store, open_workers
from narfs.engine.trust import TrustPolicy, Verify
from narfs.formats.signature import PublicKeys
from narfs.lake.settings import LakeSettings
from narfs.lake.upstreams import open_lakes
from narfs.mount.fuse import Stage, serve_mount
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.frontends import mounted_by_erofs
from tests.support.lakes import Lake
from tests.support.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path
    from typing import TypeVar, TypeVarTuple

    from narfs.formats.store_path import StorePath

    T = TypeVar("T")
    Ts = TypeVarTuple("Ts")

GIB = 1 << 30


async def as_program(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Do what a program does: in a thread, because the loop has to answer it; given up after 60 s."""
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)


@dataclass(frozen=True, slots=True)
class House:
    lake: Lake
    server: Server
    directory: Path

    @asynccontextmanager
    async def mounted(
        self,
        paths: Iterable[StorePath] | None = None,
        *,
        verify: Verify = Verify.STRICT,
        budget_bytes: int = GIB,
        cache: Path | None = None,
        sealed: bool = False,
        by_erofs: bool = False,
    ) -> AsyncIterator[tuple[Path, Store]]:
        """Mount an open View, or a closed one of ``paths``; gives the mountpoint and the engine.

        If ``sealed``, index keys count, too. With ``by_erofs`` unsealed paths are read whole before.
        """
        place = self.directory / "mnt"
        place.mkdir(exist_ok=True)
        keys = PublicKeys.parse(self.lake.trusted_public_keys)
        trust = TrustPolicy(keys, verify, keys if sealed else PublicKeys())
        settings = LakeSettings(attempts=2, negative_ttl_s=0.2)
        async with trio.open_nursery() as nursery, AsyncExitStack() as opened:
            lakes = await opened.enter_async_context(open_lakes([self.server.url], settings))
            chunks = await ChunkCache.open(
                cache or self.directory / "cache", budget_bytes=budget_bytes, keep_free_bytes=0, nursery=nursery
            )
            opened.push_async_callback(chunks.aclose)
            workers = await opened.enter_async_context(open_workers(2))
            store = await opened.enter_async_context(open_store(lakes, chunks, trust, workers))
            view = View(closed=False)
            if paths is not None:
                members = await describe_all(store, paths, closure=False, allow_missing=False)
                view = View.of([(one.narinfo.path, await store.accessor(one)) for one in members])
            if by_erofs:
                for each in view.attachments:
                    await each.accessor.settle()
                yield place, await opened.enter_async_context(_shown_by_erofs(view, place, chunks, store))
                return
            mounting = await opened.enter_async_context(trio.open_nursery())
            usable = trio.Event()
            source = None if view.closed else store

            async def serve_it() -> None:
                await serve_mount(Stage(Scene(view, source)), place, on_ready=lambda _: usable.set())

            mounting.start_soon(serve_it)
            await usable.wait()
            try:
                yield place, store
            finally:
                mounting.cancel_scope.cancel()


@asynccontextmanager
async def _shown_by_erofs(view: View, place: Path, cache: ChunkCache, store: Store) -> AsyncIterator[Store]:
    async with mounted_by_erofs(view, place, cache=cache):
        yield store


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> House:
    lake = Lake(tmp_path / "lake")
    server: Server = await nursery.start(serve, lake.directory)
    return House(lake, server, tmp_path)


def read_whole(path: bytes | Path) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - not every name is text
        return file.read()


def names(path: Path) -> list[bytes]:
    return sorted(os.fsencode(child.name) for child in path.iterdir())
