"""Room is made, least recently used first, and nobody reads a hole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from narfs.cache.budget import INDEX, Unit
from narfs.cache.layout import SEGMENT_BYTES
from narfs.errors import CacheUnusable
from narfs.formats import base32
from narfs.offsets import NarOffset
from tests.cache.nars import CHUNK, MIB, dice, keep, make_nar, opened, read_all

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.cache.chunk_cache import CachedNar, ChunkCache
    from tests.cache.nars import Nar

SEGMENT = SEGMENT_BYTES
START = NarOffset(0)


def contents(directory: Path, nar: Nar) -> Path:
    name = base32.encode(nar.nar_hash)
    return directory / "nar" / name[:2] / f"{name}.nar"


async def make_room(cache: ChunkCache, size: int) -> None:
    """Be another NAR that comes and goes."""
    with await cache.begin(dice(size).randbytes(32), size):
        pass


async def test_the_least_recently_used_segment_goes_first(tmp_path: Path) -> None:
    nar = make_nar(3 * SEGMENT, chunk_bytes=256 * 1024)
    async with opened(tmp_path, budget_bytes=3 * SEGMENT + MIB) as cache:
        cached = await keep(cache, nar, random_access=True)
        for segment in (1, 0, 2):
            assert cached.read_nowait(NarOffset(segment * SEGMENT), 10) is not None
        await make_room(cache, SEGMENT // 2)
        missing = cached.missing(START, len(nar.data))
        assert missing == list(range(16, 32))
        assert await cached.read(START, SEGMENT) == nar.data[:SEGMENT]
        assert cached.read_nowait(NarOffset(SEGMENT), 1) is None
        assert contents(tmp_path, nar).stat().st_blocks * 512 <= 2 * SEGMENT
        assert cache.statistics().evicted_bytes == SEGMENT


async def test_the_nar_of_a_solid_blob_goes_as_a_whole_and_its_index_later(tmp_path: Path) -> None:
    old, new = make_nar(2 * SEGMENT, chunk_bytes=256 * 1024), make_nar(SEGMENT, seed=1)
    async with opened(tmp_path, budget_bytes=3 * SEGMENT + MIB) as cache:
        await keep(cache, old)
        await keep(cache, new)
        await make_room(cache, SEGMENT)
        cached = cache.nar(old.nar_hash)
        assert cached is not None
        assert cached.missing(START, len(old.data)) == list(range(32))
        assert contents(tmp_path, old).stat().st_blocks == 0
        held = cache.nar(new.nar_hash)
        assert held is not None
        assert held.missing(START, len(new.data)) == []
        await make_room(cache, 3 * SEGMENT + MIB)
        assert cached.retired
        assert cache.nar(old.nar_hash) is None
        assert not contents(tmp_path, old).exists()


async def test_what_is_evicted_stays_evicted_after_reopening(tmp_path: Path) -> None:
    nar = make_nar(2 * SEGMENT, chunk_bytes=256 * 1024)
    async with opened(tmp_path, budget_bytes=2 * SEGMENT + MIB) as cache:
        await keep(cache, nar, random_access=True)
        await make_room(cache, SEGMENT)
    async with opened(tmp_path) as cache:
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert cached.missing(START, len(nar.data)) == list(range(16))
        assert await cached.read(NarOffset(SEGMENT), SEGMENT) == nar.data[SEGMENT:]
        assert cache.statistics().bad_chunks == 0


async def test_a_nar_that_nobody_opened_is_evicted_too(tmp_path: Path) -> None:
    nar = make_nar(2 * SEGMENT, chunk_bytes=256 * 1024)
    async with opened(tmp_path) as cache:
        await keep(cache, nar, random_access=True)
    async with opened(tmp_path, budget_bytes=2 * SEGMENT + MIB) as cache:
        await make_room(cache, SEGMENT)
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert len(cached.missing(START, len(nar.data))) == 16


# Decision 3: a read that left the loop meets no hole. The one thread there is is taken, so the reader has looked at the
# states, has found all it wants checked, and waits; then its bytes are to be evicted. Without the pin they would be.


async def test_a_reader_on_its_way_to_a_thread_keeps_its_segments(tmp_path: Path) -> None:
    nar = make_nar(2 * SEGMENT, chunk_bytes=256 * 1024)
    threads = trio.CapacityLimiter(1)
    async with opened(tmp_path, budget_bytes=2 * SEGMENT + MIB, threads=threads) as cache:
        cached = await keep(cache, nar, random_access=True)
        cached.read_nowait(NarOffset(SEGMENT), 1)  # so that segment 0 would be the victim
        found: list[bytes | None] = []

        async def read() -> None:
            found.append(await cached.read(START, SEGMENT))

        async with trio.open_nursery() as nursery, threads:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            await make_room(cache, SEGMENT)
            assert cached.missing(START, SEGMENT) == []
            assert len(cached.missing(NarOffset(SEGMENT), SEGMENT)) == 16
        assert found == [nar.data[:SEGMENT]]
        await make_room(cache, 2 * SEGMENT)
        assert len(cached.missing(START, SEGMENT)) == 16


async def test_a_chunk_is_not_written_while_its_segment_is_being_punched(tmp_path: Path) -> None:
    nar = make_nar(2 * SEGMENT, chunk_bytes=256 * 1024)
    punching = trio.to_thread.current_default_thread_limiter()
    async with opened(tmp_path) as cache:
        cached = await keep(cache, nar, random_access=True)

        async def evict() -> None:
            async with cache._evictor.turn:
                await cache._evictor._evict([Unit(nar.nar_hash, 0, SEGMENT)])

        punching.total_tokens = 1
        async with trio.open_nursery() as nursery, punching:
            nursery.start_soon(evict)
            await wait_all_tasks_blocked()
            nursery.start_soon(cached.write, 0, nar.chunk(0))
            await wait_all_tasks_blocked()
            assert len(cached.missing(START, SEGMENT)) == 16
        assert await cached.read(START, 1000) == nar.data[:1000]
        assert cached.missing(START, SEGMENT) == list(range(1, 16))
    async with opened(tmp_path) as cache:
        again = cache.nar(nar.nar_hash)
        assert again is not None
        assert await again.read(START, 1000) == nar.data[:1000]


async def test_a_nar_that_is_opened_while_it_is_evicted_has_not_what_goes(tmp_path: Path) -> None:
    nar = make_nar(2 * SEGMENT, chunk_bytes=256 * 1024)
    async with opened(tmp_path) as cache:
        await keep(cache, nar, random_access=True)
    async with opened(tmp_path) as cache:
        cache._means.changing[nar.nar_hash] = {INDEX}
        assert cache.nar(nar.nar_hash) is None
        cache._means.changing[nar.nar_hash] = {1}
        cached = await cache.load(nar.nar_hash)
        assert cached is not None
        assert cached.missing(START, len(nar.data)) == list(range(16, 32))
        del cache._means.changing[nar.nar_hash]


async def test_a_load_that_was_overtaken_gives_what_is_there_now(tmp_path: Path) -> None:
    nar = make_nar(4 * CHUNK)
    async with opened(tmp_path) as cache:
        await cache.keep_index(nar.index, random_access=True)
    threads = trio.CapacityLimiter(1)
    async with opened(tmp_path, threads=threads) as cache:
        found: list[CachedNar | None] = []

        async def load() -> None:
            found.append(await cache.load(nar.nar_hash))

        async with trio.open_nursery() as nursery, threads:
            nursery.start_soon(load)
            nursery.start_soon(load)
            await wait_all_tasks_blocked()
            committed = await keep(cache, nar)
        assert found == [committed, committed]


async def test_when_everything_is_pinned_there_is_no_room(tmp_path: Path) -> None:
    nar = make_nar(SEGMENT, chunk_bytes=256 * 1024)
    other = make_nar(SEGMENT, seed=1, chunk_bytes=256 * 1024)
    async with opened(tmp_path, budget_bytes=SEGMENT + MIB) as cache:
        cached = await keep(cache, nar)
        growing = await cache.keep_index(other.index, random_access=True)
        with cached.pinned(START, 1):
            for chunk in range(3):
                await growing.write(chunk, other.chunk(chunk))
            with growing.pinned(START, 1), pytest.raises(CacheUnusable, match="no room"):
                await growing.write(3, other.chunk(3))
        await growing.write(5, other.chunk(5))
        assert len(cached.missing(START, len(nar.data))) == 16


async def test_what_was_dropped_while_it_was_read_is_a_miss(tmp_path: Path) -> None:
    nar = make_nar(4 * CHUNK)
    threads = trio.CapacityLimiter(1)
    async with opened(tmp_path, threads=threads) as cache:
        cached = await keep(cache, nar)
        found: list[bytes | None] = [b"nothing"]

        async def read() -> None:
            found[0] = await read_all(cached)

        async with trio.open_nursery() as nursery, threads:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            cached.drop()
            again = await cache.begin(nar.nar_hash, len(nar.data))
            again.path.write_bytes(nar.data)
        assert found == [None]
        assert await read_all(await again.commit(nar.index, random_access=False)) == nar.data


async def test_a_cancelled_reader_lets_go_of_its_pins(tmp_path: Path) -> None:
    nar = make_nar(SEGMENT)
    threads = trio.CapacityLimiter(1)
    async with opened(tmp_path, budget_bytes=SEGMENT + MIB, threads=threads) as cache:
        cached = await keep(cache, nar)
        async with threads:
            with trio.move_on_after(0) as scope:
                await cached.read(START, 1)
            assert scope.cancelled_caught
        assert cached.pinned_units() == []
        await make_room(cache, SEGMENT)
        assert cached.missing(START, 1) == [0]


async def test_a_cancelled_write_takes_no_room(tmp_path: Path) -> None:
    nar = make_nar(4 * CHUNK)
    threads = trio.CapacityLimiter(1)
    async with opened(tmp_path, threads=threads) as cache:
        cached = await cache.keep_index(nar.index, random_access=True)
        before = cache.statistics().used_bytes
        async with threads:
            with trio.move_on_after(0):
                await cached.write(0, nar.chunk(0))
        assert cached.missing(START, 1) == [0]
        assert cache.statistics().used_bytes == before
        await cached.write(0, nar.chunk(0))
        assert cache.statistics().used_bytes == before + CHUNK


async def test_a_chunk_that_two_write_at_once_counts_once(tmp_path: Path) -> None:
    nar = make_nar(4 * CHUNK)
    async with opened(tmp_path) as cache:
        cached = await cache.keep_index(nar.index, random_access=True)
        before = cache.statistics().used_bytes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cached.write, 1, nar.chunk(1))
            nursery.start_soon(cached.write, 1, nar.chunk(1))
        assert cache.statistics().used_bytes == before + CHUNK
        assert cached.read_nowait(NarOffset(CHUNK), CHUNK) == nar.chunk(1)


async def test_one_nar_may_exceed_the_budget_and_goes_when_another_comes(tmp_path: Path) -> None:
    small, large = make_nar(MIB), make_nar(4 * MIB, seed=1)
    async with opened(tmp_path, budget_bytes=2 * MIB) as cache:
        await keep(cache, small)
        held = await keep(cache, large)
        assert cache.statistics().used_bytes > 4 * MIB
        assert await read_all(held) == large.data
        assert await read_all(await keep(cache, small)) == small.data
        assert held.missing(START, 1) == [0]
        assert cache.statistics().used_bytes < 2 * MIB


async def test_the_space_that_is_kept_free_is_never_taken(tmp_path: Path) -> None:
    small = make_nar(MIB)
    async with opened(tmp_path) as cache:
        await keep(cache, small)
    async with opened(tmp_path, keep_free_bytes=1 << 60) as cache:
        assert not cache.can_take(1)
        with pytest.raises(CacheUnusable, match="does not fit"):
            await cache.begin(bytes(32), MIB)
        cached = cache.nar(small.nar_hash)
        assert cached is not None
        assert await read_all(cached) == small.data, "nothing was evicted in vain"


async def test_drafts_count_with_their_whole_size_from_the_beginning(tmp_path: Path) -> None:
    old = make_nar(MIB)
    async with opened(tmp_path, budget_bytes=4 * MIB) as cache:
        cached = await keep(cache, old)
        with await cache.begin(bytes(32), 2 * MIB):
            assert cached.missing(START, 1) == []
            with await cache.begin(bytes(31) + b"1", 2 * MIB):
                assert cached.missing(START, 1) == [0]


@pytest.mark.usefixtures("autojump_clock")
async def test_others_who_fill_the_disk_are_given_way_by_housekeeping(tmp_path: Path) -> None:
    nar = make_nar(MIB)
    async with opened(tmp_path) as cache:
        await keep(cache, nar)
    async with opened(tmp_path, keep_free_bytes=1 << 60) as cache:
        while cache.statistics().used_bytes:  # noqa: ASYNC110 - housekeeping has its own clock and tells nobody
            await trio.sleep(1)
        assert cache.nar(nar.nar_hash) is None


async def test_whatever_is_read_and_written_under_a_small_budget_is_right(tmp_path: Path) -> None:
    chance = dice(7)
    nars = [make_nar(chance.randrange(1, 60) * CHUNK + 8 * chance.randrange(20), seed=seed) for seed in range(6)]
    budget = 260_000
    async with opened(tmp_path, budget_bytes=budget) as cache:

        async def use(nar: Nar, seed: int) -> None:
            chance = dice(seed)
            for _ in range(40):
                try:
                    cached = await cache.keep_index(nar.index, random_access=seed % 2 == 0)
                    start = NarOffset(chance.randrange(len(nar.data)))
                    length = chance.randrange(1, len(nar.data) - start + 1)
                    data = cached.read_nowait(start, length)
                    if data is None:
                        data = await cached.read(start, length)
                    if data is not None:
                        assert data == nar.data[start : start + length]
                    for chunk in cached.missing(start, length):
                        await cached.write(chunk, nar.chunk(chunk))
                except CacheUnusable:
                    await trio.lowlevel.checkpoint()
                await cache.catalog.flush()

        async with trio.open_nursery() as nursery:
            for seed, nar in enumerate(nars * 2):
                nursery.start_soon(use, nar, seed)
        used = sum(file.stat().st_blocks * 512 for file in (tmp_path / "nar").glob("*/*.nar"))
        assert used <= budget
        assert cache.statistics().used_bytes <= budget + 6 * CHUNK  # their indexes
        assert cache.statistics().evicted_bytes > 0
        assert cache.statistics().bad_chunks == 0
