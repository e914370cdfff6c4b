"""Chunks are compared ahead of a sequential reader, once each, and he sees nothing of it but that it is fast.

With chunks of 256 KiB the first window is four chunks, every other eight; a segment is sixteen.
"""

from __future__ import annotations

import errno
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from narfs.cache.layout import CHECKED, SEGMENT_BYTES
from narfs.formats import base32
from narfs.offsets import NarOffset
from tests.cache.nars import MIB, dice, keep, make_nar, opened, read_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from narfs.cache.chunk_cache import CachedNar, ChunkCache
    from narfs.cache.nar_file import NarFile
    from tests.cache.nars import Nar

CHUNK = 256 * 1024
SEGMENT = SEGMENT_BYTES


@pytest.fixture(scope="module")
def nar() -> Nar:
    return make_nar(2 * SEGMENT, chunk_bytes=CHUNK)


@asynccontextmanager
async def unchecked(
    directory: Path, nar: Nar, *, budget_bytes: int = 64 * MIB, threads: trio.CapacityLimiter | None = None
) -> AsyncIterator[tuple[ChunkCache, CachedNar]]:
    """Open a cache that knows ``nar`` from the time before."""
    async with opened(directory) as cache:
        await keep(cache, nar, random_access=True)
    async with opened(directory, budget_bytes=budget_bytes, threads=threads) as cache:
        cached = await cache.load(nar.nar_hash)
        assert cached is not None
        yield cache, cached


async def read(cached: CachedNar, nar: Nar, *chunks: int) -> None:
    """Read as the kernel does: what is in memory first."""
    for chunk in chunks:
        start = NarOffset(chunk * CHUNK + 5)
        data = cached.read_nowait(start, 1000)
        assert (await cached.read(start, 1000) if data is None else data) == nar.chunk(chunk)[5:1005]


async def checked(cached: CachedNar) -> list[int]:
    """Give the chunks that were compared, when nobody compares any more."""
    await wait_all_tasks_blocked()
    await cached._ahead.others(range(32))
    return [chunk for chunk, state in enumerate(cached._states) if state == CHECKED]


async def test_a_sequential_reader_finds_checked_what_he_comes_to(tmp_path: Path, nar: Nar) -> None:
    async with unchecked(tmp_path, nar) as (_, cached):
        await read(cached, nar, 0)
        assert await checked(cached) == [0]
        await read(cached, nar, 1)
        assert await checked(cached) == list(range(6))
        await read(cached, nar, 2)
        assert await checked(cached) == list(range(14)), "he entered the last window, 2 to 5"
        await read(cached, nar, 3, 4, 5)
        assert await checked(cached) == list(range(14))
        await read(cached, nar, *range(6, 32))
        assert await checked(cached) == list(range(32))
        assert cached.pinned_units() == []


async def test_who_reads_here_and_there_causes_no_work(tmp_path: Path, nar: Nar) -> None:
    async with unchecked(tmp_path, nar) as (_, cached):
        here_and_there = [3, 20, 8, 2, 30, 19, 12, 7, 16, 27, 0, 24]
        await read(cached, nar, *here_and_there)
        assert await checked(cached) == sorted(here_and_there)
        await read(cached, nar, 4)
        assert 5 not in await checked(cached), "that chunk 3 was read once is no evidence"


async def test_readers_of_one_chunk_compare_it_once_and_one_who_gives_up_is_replaced(tmp_path: Path, nar: Nar) -> None:
    threads = trio.CapacityLimiter(1)
    async with unchecked(tmp_path, nar, threads=threads) as (_, cached), trio.open_nursery() as nursery:
        async with threads:
            with trio.move_on_after(0):
                await read(cached, nar, 9)
            first = trio.CancelScope()

            async def read_for_a_while() -> None:
                with first:
                    await read(cached, nar, 9)

            nursery.start_soon(read_for_a_while)
            await wait_all_tasks_blocked()
            nursery.start_soon(read, cached, nar, 9)
            nursery.start_soon(read, cached, nar, 9)
            await wait_all_tasks_blocked()
            assert threads.statistics().tasks_waiting == 1
            first.cancel()
            await wait_all_tasks_blocked()
            assert threads.statistics().tasks_waiting == 1
        assert await checked(cached) == [9]


# Decision 3 for the task: the one thread there is is taken, so it has found chunks unchecked, and waits; the reader who
# started it has given up, so that nobody else holds what it is going to compare.


@asynccontextmanager
async def task_waiting(cached: CachedNar, nar: Nar, threads: trio.CapacityLimiter, *chunks: int) -> AsyncIterator[None]:
    """Have the task wait for a thread inside the block; ``chunks`` are read to start it."""
    await read(cached, nar, *chunks[:-1])
    async with threads:
        with trio.CancelScope() as reader:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, cached, nar, chunks[-1])
                await wait_all_tasks_blocked()
                reader.cancel()
        assert threads.statistics().tasks_waiting == 1
        yield


async def make_room(cache: ChunkCache, size: int) -> None:
    """Be another NAR that comes and goes."""
    with await cache.begin(dice(size).randbytes(32), size):
        pass


async def test_what_is_about_to_be_compared_is_not_evicted(tmp_path: Path, nar: Nar) -> None:
    threads = trio.CapacityLimiter(1)
    async with unchecked(tmp_path, nar, budget_bytes=2 * SEGMENT + MIB, threads=threads) as (cache, cached):
        async with task_waiting(cached, nar, threads, 0, 20, 1):
            await make_room(cache, SEGMENT)  # segment 0 is the least recently used
            assert cached.missing(NarOffset(0), 2 * SEGMENT) == list(range(16, 32))
        assert await checked(cached) == [0, 2, 3, 4, 5]
        assert cached.pinned_units() == []
        await make_room(cache, 2 * SEGMENT)
        assert await checked(cached) == []
        assert await cached.read(NarOffset(2 * CHUNK), 1) is None
        assert cache.statistics().bad_chunks == 0


async def test_what_was_evicted_in_front_of_it_stays_evicted(tmp_path: Path, nar: Nar) -> None:
    threads = trio.CapacityLimiter(1)
    async with unchecked(tmp_path, nar, budget_bytes=2 * SEGMENT + MIB, threads=threads) as (cache, cached):
        async with trio.open_nursery() as nursery, task_waiting(cached, nar, threads, 20, 10, 11):
            nursery.start_soon(read, cached, nar, 12)  # enters the window, so the task will go on to segment 1
            await wait_all_tasks_blocked()
            await make_room(cache, SEGMENT)
        assert await checked(cached) == [10, 12, 13, 14, 15]
        assert cached.missing(NarOffset(0), 2 * SEGMENT) == list(range(16, 32))
        assert await cached.read(NarOffset(SEGMENT), 1) is None
        assert cache.statistics().bad_chunks == 0


async def test_what_was_dropped_while_it_was_compared_is_not_there(tmp_path: Path, nar: Nar) -> None:
    threads = trio.CapacityLimiter(1)
    async with unchecked(tmp_path, nar, threads=threads) as (cache, cached):
        async with task_waiting(cached, nar, threads, 0, 1):
            cached.drop()
            again = await cache.begin(nar.nar_hash, len(nar.data))
            again.path.write_bytes(nar.data)
        assert await checked(cached) == []
        assert await read_all(cached) is None
        assert cache.statistics().bad_chunks == 0
        assert await read_all(await again.commit(nar.index, random_access=True)) == nar.data


async def test_a_bad_chunk_ahead_is_a_miss_for_who_comes_to_it(tmp_path: Path, nar: Nar) -> None:
    name = base32.encode(nar.nar_hash)
    async with unchecked(tmp_path, nar) as (cache, cached):
        with (tmp_path / "nar" / name[:2] / f"{name}.nar").open("r+b") as file:
            file.seek(3 * CHUNK + 5)
            file.write(bytes([nar.data[3 * CHUNK + 5] ^ 1]))
        await read(cached, nar, 0, 1)
        assert await checked(cached) == [0, 1, 2, 4, 5]
        assert cached.read_nowait(NarOffset(3 * CHUNK), 10) is None
        assert await cached.read(NarOffset(3 * CHUNK), 10) is None
        assert cached.missing(NarOffset(0), 2 * SEGMENT) == [3]
        assert cache.statistics().bad_chunks == 1
        await cached.write(3, nar.chunk(3))
        await read(cached, nar, *range(32))


class Unreadable:
    """A file on a disk that fails whenever something is compared ahead."""

    def __init__(self, file: NarFile) -> None:
        self.contents = file.contents
        self.read = file.read

    def check(self, *_: object) -> NoReturn:
        raise OSError(errno.EIO, "unreadable")


async def test_a_disk_that_fails_ahead_of_the_reader_is_no_business_of_his(tmp_path: Path, nar: Nar) -> None:
    async with unchecked(tmp_path, nar) as (cache, cached):
        assert cached._file is not None
        cached._file = Unreadable(cached._file)  # type: ignore[assignment]  # it looks like a NarFile to a reader
        await read(cached, nar, 0, 1, 2, 3)
        assert await checked(cached) == [0, 1, 2, 3]
        assert cache.statistics().bad_chunks == 0
