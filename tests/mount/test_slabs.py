"""The file system of slabs: served by one process after another, and nobody who reads is the wiser."""

from __future__ import annotations

import errno
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs.daemon.linux import MNT_DETACH, mount, unmount
from narfs.errors import Corrupt
from narfs.mount.slabs import Slabs
from tests.mount.kernel import PATIENCE_S, needs_fuse, needs_root, sys_

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from narfs.mount.slab import Slab
    from narfs.offsets import SlabOffset

pytestmark = [pytest.mark.mount, needs_fuse, needs_root]

SIZE = 1 << 20


class Numbers:
    """A slab whose every block says where it is; ``gate`` holds reads up, ``trouble`` fails them."""

    size = SIZE

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.trouble: Exception | None = None
        self.asked = trio.Event()

    async def read(self, offset: SlabOffset, size: int) -> bytes:
        self.asked.set()
        await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        size = min(size, SIZE - offset)
        return b"".join(block(at) for at in range(offset, offset + size, 4096))


def block(at: int) -> bytes:
    return b"%4096d" % at


def as_slab(numbers: Numbers) -> Slab:
    return numbers  # type: ignore[return-value]


def read(place: Path, name: int, at: int) -> bytes:
    fd = os.open(place / str(name), os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(fd, 4096, at)
    finally:
        os.close(fd)


@asynccontextmanager
async def mounted(place: Path) -> AsyncIterator[tuple[Slabs, trio.Nursery]]:
    """Serve slabs at ``place``."""
    place.mkdir()  # noqa: ASYNC240 - nothing is mounted yet
    slabs = Slabs.open()
    mount("slabs", str(place), kind="fuse.narfs", options=f"fd={slabs.fd},rootmode=40000,user_id=0,group_id=0")
    try:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slabs.serve)
                await slabs.usable.wait()
                yield slabs, nursery
                slabs.stop()
    finally:
        unmount(str(place), MNT_DETACH)
        os.close(slabs.fd)


async def test_a_slab_is_there_by_its_number_until_it_is_taken(tmp_path: Path) -> None:
    async with mounted(tmp_path / "m") as (slabs, _):
        name = slabs.lay(as_slab(Numbers()))
        assert await sys_(read, tmp_path / "m", name, 8192) == block(8192)
        assert (await sys_(os.stat, tmp_path / "m" / str(name))).st_size == SIZE
        fd = await sys_(os.open, tmp_path / "m" / str(name), os.O_RDONLY)
        slabs.take(name)
        with pytest.raises(OSError, match="Input/output error"):
            await sys_(os.pread, fd, 4096, SIZE // 2)
        await sys_(os.close, fd)
        for absent in (str(name + 1), "x", str(name)):
            with pytest.raises(FileNotFoundError):
                await sys_(os.open, tmp_path / "m" / absent, os.O_RDONLY)


async def test_a_failed_read_has_the_errno_of_the_table_and_is_counted(tmp_path: Path) -> None:
    numbers = Numbers()
    numbers.trouble = Corrupt("not what was promised")
    async with mounted(tmp_path / "m") as (slabs, _):
        name = slabs.lay(as_slab(numbers))
        with pytest.raises(OSError, match="Input/output error") as failed:
            await sys_(read, tmp_path / "m", name, 0)
        assert failed.value.errno == errno.EIO
        assert slabs.statistics().failures == {"EIO": slabs.statistics().requests["read"]}
        numbers.trouble = None
        assert await sys_(read, tmp_path / "m", name, 0) == block(0)


async def test_another_server_goes_on_where_the_first_left_a_reader_waiting(tmp_path: Path) -> None:
    held, found, done = Numbers(), [], trio.Event()
    held.gate = trio.Event()
    async with mounted(tmp_path / "m") as (first, nursery):
        name = first.lay(as_slab(held))

        async def reader() -> None:
            found.append(await sys_(read, tmp_path / "m", name, 4096))
            done.set()

        nursery.start_soon(reader)
        await held.asked.wait()
        first.stop()
        second = Slabs(os.dup(first.fd), adopted=True)
        nursery.start_soon(second.serve)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not found, "its slab is not laid again yet"
        second.lay(as_slab(Numbers()), name)
        second.complete()
        await done.wait()
        assert found == [block(4096)]
        assert await sys_(read, tmp_path / "m", name, 65536) == block(65536)
        second.close()


async def test_a_slab_that_is_not_laid_again_fails_its_readers(tmp_path: Path) -> None:
    async with mounted(tmp_path / "m") as (first, nursery):
        name = first.lay(as_slab(Numbers()))
        fd = await sys_(os.open, tmp_path / "m" / str(name), os.O_RDONLY)
        first.stop()
        second = Slabs(os.dup(first.fd), adopted=True)
        nursery.start_soon(second.serve)
        second.complete()
        with pytest.raises(OSError, match="Input/output error"):
            await sys_(os.pread, fd, 4096, 0)
        await sys_(os.close, fd)
        second.close()


async def test_serving_ends_with_the_mount(tmp_path: Path) -> None:
    async with mounted(tmp_path / "m") as (first, _):
        first.stop()
        async with trio.open_nursery() as nursery:
            second = Slabs(os.dup(first.fd), adopted=True)
            nursery.start_soon(second.serve)
            await sys_(unmount, str(tmp_path / "m"), 0)
        second.close()
        mount("none", str(tmp_path / "m"), kind="tmpfs")


async def test_what_is_answered_after_the_end_goes_nowhere(tmp_path: Path) -> None:
    held = Numbers()
    held.gate = trio.Event()
    async with mounted(tmp_path / "m") as (first, nursery):
        name = first.lay(as_slab(held))

        async def reader() -> None:
            with suppress(OSError):
                await sys_(read, tmp_path / "m", name, 4096)

        second = Slabs(os.dup(first.fd))
        first.stop()
        nursery.start_soon(second.serve)
        second.lay(as_slab(held), name)
        nursery.start_soon(reader)
        await held.asked.wait()
        held.gate.set()
        number, other = second.fd, os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
        second.close()
        os.dup2(other, number)  # as the next open() may
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert os.fstat(other).st_size == 0
        for fd in (other, number):
            os.close(fd)
        third = Slabs(os.dup(first.fd), adopted=True)
        third.lay(as_slab(Numbers()), name)
        nursery.start_soon(third.serve)
        await trio.testing.wait_all_tasks_blocked(0.05)
        third.close()
