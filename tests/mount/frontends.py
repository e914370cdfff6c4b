"""The same View through either frontend."""

from __future__ import annotations

import os
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import trio

from narfs.cache.lots import Lots
from narfs.daemon.erofs.images import Images
from narfs.daemon.session import Household
from narfs.engine.store import open_workers
from narfs.mount.fuse import Handlers, Stage, serve_mount
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.kernel import PATIENCE_S, mounted, sys_, unmount
from tests.mount.model import MemoryAccessor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from narfs.cache.chunk_cache import ChunkCache


class Mounting(Protocol):
    """A way to mount a closed View whose trees are known."""

    def __call__(
        self, view: View, place: Path, *, read_deadline_s: float = 120
    ) -> AbstractAsyncContextManager[Handlers]: ...


@asynccontextmanager
async def mounted_by_erofs(
    view: View, place: Path, *, read_deadline_s: float = 120, cache: ChunkCache | None = None
) -> AsyncIterator[Handlers]:
    """Mount the same paths as ``view`` has, as the daemon does; what FUSE serves is beside ``place``."""
    for each in view.attachments:
        if each.accessor.listing is None:  # the daemon waits for the pass
            assert isinstance(each.accessor, MemoryAccessor)
            each.accessor.verify()
    stage = Stage()
    scene = Scene(
        View.of([(each.path, each.accessor) for each in view.attachments], inodes=stage.inodes),
        read_deadline_s=read_deadline_s,
    )
    stage.show(b"view", scene)
    home = place.with_name("stage")
    for directory in (place, home):
        directory.mkdir(exist_ok=True)
    ready = trio.Event()
    found: list[Handlers] = []

    def on_ready(handlers: Handlers) -> None:
        found.append(handlers)
        ready.set()

    # On a disk, for the kernel takes no image from tmpfs, where other files of a test may be.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as disk:
        try:
            with trio.fail_after(PATIENCE_S):
                async with open_workers(1) as workers, trio.open_nursery() as nursery:
                    nursery.start_soon(partial(serve_mount, stage, home, on_ready=on_ready))
                    await ready.wait()
                    images = Images(Path(disk, "images"), home, nursery)
                    if (trouble := await images.trouble()) is not None:
                        pytest.skip(trouble)
                    household = Household(cache, None, workers, Lots(None if cache is None else cache.catalog))
                    await images.mount("view", scene, household, stage, place)
                    try:
                        yield found[0]
                    finally:
                        with trio.CancelScope(shield=True):
                            await sys_(unmount, place)
                    nursery.cancel_scope.cancel()
        finally:
            unmount(place)
            unmount(home)


FRONTENDS = [
    pytest.param(mounted, id="tree"),
    pytest.param(
        mounted_by_erofs,
        id="erofs",
        marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root mounts EROFS"),
    ),
]
