"""Images over slabs that somebody takes away, or that this process leaves to the next while it mounts."""

from __future__ import annotations

import tempfile
import threading
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from narfs.cache.lots import Lots
from narfs.daemon import linux
from narfs.daemon.erofs import kernel
from narfs.daemon.erofs.images import open_images
from narfs.daemon.session import Household
from narfs.errors import Unavailable
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.kernel import PATIENCE_S, needs_fuse, needs_root, sys_
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from narfs.daemon.erofs.images import Images
    from narfs.daemon.erofs.shown import Shown

pytestmark = [pytest.mark.mount, needs_fuse, needs_root]

MEMBER = path("a")


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Images]:
    """Open images with their slabs at ``home/slabs``; nothing stays mounted."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as disk, trio.fail_after(PATIENCE_S):
        household = Household(None, None, None, Lots(None))  # type: ignore[arg-type]  # small parts need no workers
        try:
            async with open_images(household, Path(disk, "images"), home / "slabs") as images:
                if (trouble := await images.trouble()) is not None:
                    pytest.skip(trouble)
                yield images
        finally:
            for name in ("view-one", "view-two", "slabs"):
                with suppress(OSError):
                    await sys_(linux.unmount, str(home / name), linux.MNT_DETACH)


async def show(images: Images, place: Path) -> Shown:
    place.mkdir()  # noqa: ASYNC240 - nothing is mounted yet
    scene = Scene(View.of([(MEMBER, MemoryAccessor({b"f": File(b"x" * 9000)}))]))
    return await images.mount("view", scene, place)


async def contents(place: Path) -> bytes:
    return await sys_((place / MEMBER.base_name / "f").read_bytes)


async def test_a_mount_under_way_is_done_when_reads_are_left_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounting, left = trio.Event(), threading.Event()

    def mount(*arguments: Any, mount: Any = kernel.mount) -> None:
        trio.from_thread.run_sync(mounting.set)
        left.wait()
        mount(*arguments)

    async with opened(tmp_path) as images, trio.open_nursery() as nursery:
        await show(images, tmp_path / "view-one")
        monkeypatch.setattr(kernel, "mount", mount)
        nursery.start_soon(show, images, tmp_path / "view-two")
        await mounting.wait()
        images.leave()
        left.set()


async def test_slabs_unmounted_in_the_moment_they_are_mounted_are_mounted_again_for_the_next_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount(source: str, target: str, *, mount: Any = linux.mount, **others: Any) -> None:
        mount(source, target, **others)
        linux.unmount(target, linux.MNT_DETACH)

    async with opened(tmp_path) as images:
        with monkeypatch.context() as patched:
            patched.setattr(linux, "mount", mount)
            with pytest.raises(Unavailable, match="unmounted by somebody"), trio.fail_after(60):
                await show(images, tmp_path / "view-one")
        await show(images, tmp_path / "view-two")
        assert await contents(tmp_path / "view-two") == b"x" * 9000


async def test_slabs_that_somebody_unmounted_are_held_as_long_as_something_is_shown_over_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as images:
        one = await show(images, tmp_path / "view-one")
        await sys_(linux.unmount, str(tmp_path / "slabs"), linux.MNT_DETACH)
        await show(images, tmp_path / "view-two")
        assert await contents(tmp_path / "view-one") == b"x" * 9000
        assert len(images._slabs) == 2
        read = images.statistics().bytes_read
        await sys_(linux.unmount, one.place, 0)
        images.take_off(one)
        while len(images._slabs) == 2:  # noqa: ASYNC110 - the kernel ends the connection when it likes
            await trio.sleep(0.01)
        assert images.statistics().bytes_read == read
        assert await contents(tmp_path / "view-two") == b"x" * 9000
