"""Stories that need a file system of their own; ``test_disk_trouble`` runs them, one in each process."""

from __future__ import annotations

import hashlib
import logging
import os
import resource
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trio.testing
from trio._core._thread_cache import THREAD_CACHE

from narfs.cache.chunk_cache import ChunkCache
from narfs.cache.layout import SEGMENT_BYTES
from narfs.errors import CacheUnusable
from narfs.formats.index import NarIndex
from narfs.formats.nar import NarIndexer
from narfs.offsets import ChunkGrid, NarOffset
from tests.cache.nars import CHUNK, MIB, keep, make_nar, opened, read_all
from tests.support.trees import File, dump

if TYPE_CHECKING:
    from collections.abc import Iterator

START = NarOffset(0)


@contextmanager
def must_be_unusable() -> Iterator[None]:
    try:
        yield
    except CacheUnusable:
        return
    raise AssertionError("the disk took it")


class Log(logging.Handler):
    """Keeps warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


async def full_disk(disk: Path, log: Log) -> None:
    nar, other = make_nar(8 * CHUNK), make_nar(4 * CHUNK, seed=1)
    async with opened(disk / "cache") as cache:
        held = await keep(cache, nar)
        growing = await cache.keep_index(other.index, random_access=True)
        await growing.write(0, other.chunk(0))
        before = cache.statistics().used_bytes
        with held.pinned(START, 8 * CHUNK), growing.pinned(START, 1):
            fill(disk / "filler")
            for _ in range(3):
                with must_be_unusable():
                    await growing.write(1, other.chunk(1))
            assert growing.missing(START, 2 * CHUNK) == [1]
            assert cache.statistics().used_bytes == before
            assert await read_all(held) == nar.data
            assert await growing.read(START, CHUNK) == other.chunk(0)
            (disk / "filler").unlink()
            await trio.sleep(10)
            assert not cache.statistics().unusable, "nobody has written since, and the disk is well"
            await growing.write(1, other.chunk(1))
        assert await growing.read(START, 2 * CHUNK) == other.data[: 2 * CHUNK]
    assert len(log.lines) <= 1, log.lines


async def eviction_on_a_full_disk(disk: Path, log: Log) -> None:
    old, new = make_nar(2 * MIB), make_nar(MIB, seed=1)
    async with opened(disk / "cache", keep_free_bytes=MIB) as cache:
        await keep(cache, old)
        fill(disk / "filler")
        await trio.sleep(20)
        assert await read_all(await keep(cache, new)) == new.data
        cached = cache.nar(old.nar_hash)
        assert cached is None or cached.missing(START, 1) == [0]
    assert len(log.lines) <= 1, log.lines


async def read_only_disk(disk: Path, log: Log) -> None:
    nar, other = make_nar(8 * CHUNK), make_nar(4 * CHUNK, seed=1)
    async with opened(disk / "cache") as cache:
        await keep(cache, nar)
        await cache.keep_index(other.index, random_access=True)
    await trio.run_process(["mount", "-o", "remount,ro", disk])
    with must_be_unusable():
        async with trio.open_nursery(strict_exception_groups=False) as nursery:
            await ChunkCache.open(disk / "cache", budget_bytes=MIB, keep_free_bytes=0, nursery=nursery)
    assert log.lines == []


async def no_more_writes(disk: Path, log: Log) -> None:
    nar, other = make_nar(8 * CHUNK), make_nar(4 * CHUNK, seed=1)
    async with opened(disk / "cache") as cache:
        held = await keep(cache, nar)
        held.close()
        growing = await cache.keep_index(other.index, random_access=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for _ in range(3):
            with must_be_unusable():
                await growing.write(0, other.chunk(0))
        assert not cache.can_take(1)
        with must_be_unusable():
            await cache.begin(bytes(32), CHUNK)
        assert await read_all(held) == nar.data
        held.drop()
        assert cache.statistics().unusable
    assert len(log.lines) == 1, log.lines


async def no_holes(disk: Path, log: Log) -> None:
    nar = make_nar(2 * SEGMENT_BYTES, chunk_bytes=256 * 1024)
    async with opened(disk / "cache", budget_bytes=2 * SEGMENT_BYTES + MIB, keep_free_bytes=-(1 << 40)) as cache:
        cached = await keep(cache, nar, random_access=True)
        assert cached.read_nowait(START, 1) is None, "ramfs has no RWF_NOWAIT"
        assert await cached.read(START, 100) == nar.data[:100]
        (await cache.begin(bytes(32), SEGMENT_BYTES)).discard()
        assert cached.retired
        assert cache.nar(nar.nar_hash) is None
        assert cache.statistics().used_bytes == 0
        assert await read_all(await keep(cache, nar, random_access=True)) == nar.data
    assert log.lines == []


async def index_that_is_cut(disk: Path, log: Log) -> None:
    data = dump({b"%d" % number: File() for number in range(9000)})
    indexer = NarIndexer(len(data))
    indexer.feed(data)
    grid = ChunkGrid(len(data), MIB)
    digests = b"".join(hashlib.sha256(data[at : at + MIB]).digest() for at in range(0, len(data), MIB))
    index = NarIndex(hashlib.sha256(data).digest(), len(data), indexer.finish(), grid, digests, None)
    async with opened(disk / "cache") as cache:
        await cache.keep_index(index)
    async with opened(disk / "cache") as cache:
        nar = await cache.load(index.nar_hash)
        assert nar is not None
        for file in (disk / "cache").rglob("*.index"):
            assert file.stat().st_size > 256 * 1024
            os.truncate(file, 0)  # a page of a mapped file that the disk cannot read again kills in the same way
        assert nar.index.listing.name(8999)
    assert log.lines == []


async def no_more_threads(disk: Path, log: Log) -> None:
    nar = make_nar(8 * CHUNK)
    async with opened(disk / "cache") as cache:
        cached = await keep(cache, nar)
        now = address_space()
        resource.setrlimit(
            resource.RLIMIT_AS, (now + MIB, resource.RLIM_INFINITY)
        )  # a thread wants 8 MiB for its stack
        THREAD_CACHE._idle_workers.clear()
        try:
            with must_have_no_thread():
                await trio.to_thread.run_sync(lambda: None)
            await trio.sleep(20)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await read_all(cached) == nar.data
    assert log.lines == []


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def must_have_no_thread() -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        return
    raise AssertionError("a thread was started")


def main() -> None:
    log = Log()
    logging.getLogger("narfs").addHandler(log)
    scene = {
        scene.__name__: scene
        for scene in (
            full_disk,
            eviction_on_a_full_disk,
            read_only_disk,
            no_more_writes,
            no_holes,
            index_that_is_cut,
            no_more_threads,
        )
    }
    trio.run(scene[sys.argv[1]], Path(sys.argv[2]), log, clock=trio.testing.MockClock(autojump_threshold=0.01))


if __name__ == "__main__":
    main()
