"""The directory that images are made in. An image is unlinked once it is mounted: the kernel holds it open."""

from __future__ import annotations

import itertools
import os
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from narfs.daemon.directories import private_directory
from narfs.daemon.erofs import kernel
from narfs.daemon.erofs.image import write_image
from narfs.daemon.erofs.leftovers import drop_leftovers
from narfs.errors import Unavailable
from narfs.mount.mountpoint import IMAGE_NAME, image_name, lives, prepare
from narfs.mount.slab import Slab

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.cache.chunk_cache import ChunkCache
    from narfs.daemon.erofs.image import NewPart
    from narfs.daemon.session import Household
    from narfs.mount.fuse import Stage
    from narfs.mount.scene import Scene


_INDEXES_WRITTEN_S: Final = 3.0
"""Sealed indexes that have just come are being written; parts are kept beside them only."""


class Images:
    """Images in ``directory``, with slabs that a stage shows at ``home``. New parts are kept in ``nursery``.

    ``of_daemon``: they are of views that a daemon keeps, and are named after them.
    """

    def __init__(self, directory: Path, home: Path, nursery: trio.Nursery, *, of_daemon: bool = False) -> None:
        self._directory = directory
        self._of_daemon = of_daemon
        self._nursery = nursery
        self.home = home
        self._numbers = itertools.count()
        self._trouble: str | None = None
        self._tried = False
        self._fresh: dict[bytes, NewPart] = {}
        """Parts that are being kept, by the keys of their lots: builds that start together have the same inputs."""

    async def trouble(self) -> str | None:
        """Say why no View can be shown by EROFS here; None if nothing is in the way. Tried once."""
        if not self._tried:
            self._trouble = await trio.to_thread.run_sync(self._try)
            self._tried = True
        return self._trouble

    async def mount(self, name: str, scene: Scene, household: Household, stage: Stage, at: Path) -> Path:
        """Show at ``at`` a scene that is on the stage under ``name`` and knows all its trees; give the real path."""
        place = await prepare(at)
        image = self._directory / image_name(os.getpid(), next(self._numbers), name if self._of_daemon else None)
        try:
            ranges, new = await write_image(scene.view, household, image, self._fresh)
            slab = Slab(scene, ranges)
            slab_name = stage.lay(name.encode(), slab)
            slab_path = self.home / os.fsdecode(slab_name)
            # In a thread: the kernel opens the slab, which this loop has to answer.
            await trio.to_thread.run_sync(partial(kernel.mount, image, slab_path, place))
        except OSError as error:
            raise Unavailable(f"{image}: {error.strerror}") from error
        finally:
            image.unlink(missing_ok=True)

        def is_shown() -> bool:
            file = stage.slab_named(slab_name)
            return file is not None and file.slab is slab

        self._nursery.start_soon(drop_leftovers, slab, slab_path, is_shown)
        if household.cache is not None and new:
            self._fresh |= {part.key: part for part in new}
            self._nursery.start_soon(self._keep, household.cache, new)
        return place

    def _try(self) -> str | None:
        try:
            private_directory(self._directory)
            for left in self._directory.iterdir():
                if (made := IMAGE_NAME.fullmatch(left.name)) and not lives(made[1]):
                    left.unlink()
        except OSError as error:
            return f"{self._directory}: {error.strerror}"
        return kernel.trouble(self._directory, self.home)

    async def _keep(self, cache: ChunkCache, new: list[NewPart]) -> None:
        """Keep new parts, now that nobody waits for them."""
        later = [part for part in new if not await cache.parts.keep(*part)]
        await trio.sleep(_INDEXES_WRITTEN_S)
        for part in later:
            await cache.parts.keep(*part)
        for part in new:
            self._fresh.pop(part.key, None)
