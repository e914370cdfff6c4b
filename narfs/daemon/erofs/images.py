"""Images of Views, and the mount of the slabs under them. An image is unlinked once it is mounted: the kernel has it.

The mount of slabs is made with the first image, or taken over from the process before, whose Views then stay what they
are: ``adopt``. It goes with this process, unless that was told to ``leave`` it to the next.
"""

from __future__ import annotations

import itertools
import os
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from narfs.daemon import linux
from narfs.daemon.directories import private_directory
from narfs.daemon.erofs import kernel
from narfs.daemon.erofs.image import foresee, write_image
from narfs.daemon.erofs.leftovers import drop_leftovers
from narfs.daemon.erofs.new_parts import NewParts
from narfs.daemon.erofs.shown import Shown
from narfs.errors import Unavailable
from narfs.mount.mounted import IMAGE_NAME, image_name, lives, mount_at, mounted_over, mountinfo, place_of
from narfs.mount.mountpoint import detach, prepare
from narfs.mount.slab import Slab
from narfs.mount.slabs import Slabs
from narfs.mount.statistics import MountStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from narfs.daemon.session import Household
    from narfs.mount.accessor import Accessor
    from narfs.mount.scene import Scene

_SLABS_OPTIONS: Final = "rootmode=40000,user_id=0,group_id=0,max_read=1048576"


@asynccontextmanager
async def open_images(
    household: Household,
    directory: Path,
    home: Path,
    *,
    of_daemon: bool = False,
    on_mount: Callable[[int], object] = lambda _: None,
) -> AsyncIterator[Images]:
    """Make images in ``directory``, with their slabs at ``home``; nothing is mounted there afterwards.

    ``of_daemon``: they are of views that a daemon keeps, and are named after them. ``on_mount`` is given the descriptor
    that slabs are served over.
    """
    async with trio.open_nursery() as nursery:
        images = Images(household, directory, home, nursery, of_daemon=of_daemon, on_mount=on_mount)
        try:
            yield images
        finally:
            images.close()
            nursery.cancel_scope.cancel()


class Images:
    """Made by ``open_images``."""

    def __init__(
        self,
        household: Household,
        directory: Path,
        home: Path,
        nursery: trio.Nursery,
        *,
        of_daemon: bool,
        on_mount: Callable[[int], object],
    ) -> None:
        self.left = False
        """Whether the mounts are left to the next process."""
        self._directory = directory
        self._home = home
        self._of_daemon = of_daemon
        self._on_mount = on_mount
        self._nursery = nursery
        self._numbers = itertools.count()
        self._slabs: list[Slabs] = []
        """The last one is mounted; those before were unmounted by somebody, and serve on what is shown over them."""
        self._counted = MountStatistics()
        """Of slabs that are over."""
        self._making = trio.Lock()
        self._trying = trio.Lock()
        self._trouble: str | None = None
        self._tried = False
        self._before: dict[str, str] = {}
        """Places and images of what the process before showed, as far as nobody goes on with it."""
        self._household = household
        self._new_parts = NewParts(household, nursery)

    async def trouble(self) -> str | None:
        """Say why no View can be shown by EROFS here; None if nothing is in the way. Tried once: 10 to 60 ms."""
        async with self._trying:
            if not self._tried:
                self._trouble = await trio.to_thread.run_sync(self._try)
                self._tried = True
        return self._trouble

    def foresee(self, accessor: Accessor) -> None:
        """Say that a path, whose tree has just come, is going to be in an image: its part is made meanwhile."""
        if self._tried and self._trouble is None:
            foresee(accessor, self._household.lots, self._new_parts)

    async def mount(self, name: str, scene: Scene, at: Path) -> Shown:
        """Show at ``at`` a scene, a View that knows all its trees; ``take_off`` ends it. Unavailable, UsageError."""
        place = await prepare(at)
        slabs, device = await self._mounted()
        number = next(self._numbers)
        image = self._directory / image_name(os.getpid(), device, number, name if self._of_daemon else None)
        laid = None
        try:
            ranges = await write_image(scene.view, self._household, image, self._new_parts)
            laid = self._lay(slabs, Slab(scene, (one[:3] for one in ranges)))
            # In a thread: the kernel opens the slab, which this loop has to answer.
            await trio.to_thread.run_sync(partial(kernel.mount, image, self._home / str(laid), place))
        except BaseException as error:
            if laid is not None:
                slabs.take(laid)
            if isinstance(error, OSError):
                raise Unavailable(f"{image}: {error.strerror}") from error
            raise
        finally:
            image.unlink(missing_ok=True)
        return Shown.of(place, image, laid, ranges)

    def adopt(self, fd: int) -> bool:
        """Take over the mount of slabs from the process that ``fd`` comes from, if it is still there."""
        here = mount_at(place_of(self._home))
        if here is None or here.kind != "fuse.narfs":
            os.close(fd)
            return False
        self._before = mounted_over(mountinfo(), here.device)
        self._serve(Slabs(fd, adopted=True))
        return True

    def still_shows(self, shown: Shown) -> bool:
        """Whether what the process before showed is still there, over slabs that were taken over."""
        return self._before.get(shown.place) == shown.image and here_is(shown)

    async def lay_again(self, shown: Shown, scene: Scene) -> None:
        """Go on with what the process before showed; Unavailable if the scene's View is another one."""
        adopted, *_ = self._slabs
        ranges = await trio.to_thread.run_sync(shown.ranges_in, scene.view)
        self._lay(adopted, Slab(scene, ranges), shown.slab)
        self._before = {place: image for place, image in self._before.items() if image != shown.image}

    async def all_laid(self) -> None:
        """Say that what the process before showed is laid again, or never will be: the rest of it is taken off.

        That process may have died before it wrote down what it had mounted.
        """
        for slabs in self._slabs:
            slabs.complete()
        self._drop_those_over()
        await trio.to_thread.run_sync(self._clear)

    def take_off(self, shown: Shown) -> None:
        """Serve a slab no longer, whose EROFS mount was taken off; who has a file of it open gets EIO."""
        for slabs in self._slabs:
            slabs.take(shown.slab)
        self._drop_those_over()

    def statistics(self) -> MountStatistics:
        """Count what was read of slabs."""
        return sum((slabs.statistics() for slabs in self._slabs), self._counted)

    def leave(self) -> None:
        """Answer no read from now on: all mounts stay for the next process, and who reads waits for it.

        What mount(2) asks is answered until ``close``: it is in a thread, which has to end first.
        """
        self.left = True
        for slabs in self._slabs:
            slabs.leave_reads()

    def close(self) -> None:
        """Let go of the slabs."""
        if self._slabs and not self.left:
            self._clear()
            with suppress(OSError):  # somebody else did it
                linux.unmount(str(self._home), linux.MNT_DETACH)
        while self._slabs:
            self._slabs.pop().close()

    def _clear(self) -> None:
        for place, image in self._before.items():
            here = mount_at(place)
            if here is not None and here.source == image:
                with suppress(OSError):  # somebody else did it
                    linux.unmount(place, linux.MNT_DETACH)
        self._before = {}

    def _lay(self, slabs: Slabs, slab: Slab, number: int | None = None) -> int:
        number = slabs.lay(slab, number)
        self._nursery.start_soon(drop_leftovers, slab, self._home / str(number), partial(slabs.has, number))
        return number

    async def _mounted(self) -> tuple[Slabs, str]:
        """Give the slabs, mounted, and the device that this is; Unavailable."""
        async with self._making:
            if not self._slabs or mount_at(place_of(self._home)) is None:
                await self._mount()
        here = mount_at(place_of(self._home))
        if here is None or not self._slabs:
            raise Unavailable(f"{self._home}: was unmounted by somebody")
        return self._slabs[-1], here.device

    async def _mount(self) -> None:
        if mount_at(place_of(self._home)) is not None:
            await detach(self._home)  # of a process that was killed
        slabs = Slabs.open()
        options = f"fd={slabs.fd},{_SLABS_OPTIONS}"
        flags = linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
        try:
            private_directory(self._home)
            linux.mount("narfs-slabs", str(self._home), kind="fuse.narfs", flags=flags, options=options)
        except OSError as error:
            slabs.close()
            raise Unavailable(f"{self._home}: {error.strerror}") from error
        self._serve(slabs)
        self._on_mount(slabs.fd)
        await slabs.usable.wait()

    def _serve(self, slabs: Slabs) -> None:
        self._slabs.append(slabs)

        async def serve() -> None:
            await slabs.serve()
            self._drop_those_over()

        self._nursery.start_soon(serve)

    def _drop_those_over(self) -> None:
        for slabs in [each for each in self._slabs if each.over]:
            self._slabs.remove(slabs)
            self._counted += slabs.statistics()
            slabs.close()

    def _try(self) -> str | None:
        try:
            private_directory(self._directory)
            for left in self._directory.iterdir():
                if (made := IMAGE_NAME.fullmatch(left.name)) and not lives(made[1]):
                    left.unlink()
        except OSError as error:
            return f"{self._directory}: {error.strerror}"
        return kernel.trouble(self._directory, self._home)


def here_is(shown: Shown) -> bool:
    """Whether it is still at its place, and nothing over it."""
    here = mount_at(shown.place)
    return here is not None and here.source == shown.image
