"""The same View through either frontend."""

from __future__ import annotations

import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import trio

from narfs.cache.lots import Lots
from narfs.daemon.erofs.images import open_images
from narfs.daemon.session import Household
from narfs.engine.store import open_workers
from narfs.mount.inodes import Inodes
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.kernel import PATIENCE_S, mounted, sys_, unmount
from tests.mount.model import MemoryAccessor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from narfs.cache.chunk_cache import ChunkCache
    from narfs.daemon.erofs.images import Images
    from narfs.mount.scene import Watcher
    from narfs.mount.statistics import MountStatistics


class Counted(Protocol):
    """Who serves, and counts what it was asked."""

    def statistics(self) -> MountStatistics:
        """Count."""


class Mounting(Protocol):
    """A way to mount a closed View whose trees are known."""

    def __call__(
        self, view: View, place: Path, *, read_deadline_s: float = 120, watcher: Watcher | None = None
    ) -> AbstractAsyncContextManager[Counted]: ...


@asynccontextmanager
async def mounted_by_erofs(
    view: View,
    place: Path,
    *,
    read_deadline_s: float = 120,
    cache: ChunkCache | None = None,
    watcher: Watcher | None = None,
) -> AsyncIterator[Images]:
    """Mount the same paths as ``view`` has, as the daemon does; their slab is beside ``place``."""
    for each in view.attachments:
        if each.accessor.listing is None:  # the daemon waits for the pass
            assert isinstance(each.accessor, MemoryAccessor)
            each.accessor.verify()
    scene = Scene(
        View.of([(each.path, each.accessor) for each in view.attachments], inodes=Inodes()),
        read_deadline_s=read_deadline_s,
        watcher=watcher,
    )
    place.mkdir(exist_ok=True)  # noqa: ASYNC240 - nothing is mounted yet
    # On a disk, for the kernel takes no image from tmpfs, where other files of a test may be.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as disk, trio.fail_after(PATIENCE_S):
        async with (
            open_workers(1) as workers,
            open_images(
                Household(cache, None, workers, Lots(None if cache is None else cache.catalog)),
                Path(disk, "images"),
                place.with_name("slabs"),
            ) as images,
        ):
            if (trouble := await images.trouble()) is not None:
                pytest.skip(trouble)
            await images.mount("view", scene, place)
            try:
                yield images
            finally:
                with trio.CancelScope(shield=True):
                    await scene.waits.close()
                    await sys_(unmount, place)


FRONTENDS = [
    pytest.param(mounted, id="tree"),
    pytest.param(
        mounted_by_erofs,
        id="erofs",
        marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root mounts EROFS"),
    ),
]
