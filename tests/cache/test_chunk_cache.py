"""What the engine sees of a cache that nothing happens to."""

from __future__ import annotations

import errno
import hashlib
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from narfs.cache import chunk_cache
from narfs.errors import CacheUnusable
from narfs.formats import base32
from narfs.offsets import NarOffset
from tests.cache.nars import CHUNK, MIB, keep, make_nar, opened, read_all

if TYPE_CHECKING:
    from narfs.cache.chunk_cache import ChunkCache


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_committed_draft_is_read_without_a_thread(tmp_path: Path) -> None:
    nar = make_nar(10 * CHUNK + 8)
    async with opened(tmp_path / "cache") as cache:
        cached = await keep(cache, nar)
        assert cached.read_nowait(NarOffset(0), len(nar.data)) == nar.data
        assert cached.read_nowait(NarOffset(CHUNK - 3), 6) == nar.data[CHUNK - 3 : CHUNK + 3]
        assert cached.read_nowait(NarOffset(len(nar.data) - 1), 2) is None
        assert await cached.read(NarOffset(5), 0) == b""
        assert cached.missing(NarOffset(0), len(nar.data)) == []
        assert cache.statistics().hits == 2


async def test_the_cached_file_is_the_nar(tmp_path: Path) -> None:
    nar = make_nar(3 * CHUNK)
    async with opened(tmp_path) as cache:
        await keep(cache, nar)
    name = base32.encode(nar.nar_hash)
    contents = (tmp_path / "nar" / name[:2] / f"{name}.nar").read_bytes()
    assert hashlib.sha256(contents).digest() == nar.nar_hash


async def test_after_reopening_a_chunk_is_compared_before_it_is_read_without_a_thread(tmp_path: Path) -> None:
    nar = make_nar(10 * CHUNK)
    async with opened(tmp_path) as cache:
        await keep(cache, nar)
    async with opened(tmp_path) as cache:
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert cached.index.listing == nar.index.listing
        assert cached.read_nowait(NarOffset(0), 10) is None
        assert await cached.read(NarOffset(CHUNK - 1), 2) == nar.data[CHUNK - 1 : CHUNK + 1]
        assert cached.read_nowait(NarOffset(0), 2 * CHUNK) == nar.data[: 2 * CHUNK]
        assert cached.read_nowait(NarOffset(2 * CHUNK), 1) is None


async def test_there_is_one_object_per_nar_however_it_is_asked_for(tmp_path: Path) -> None:
    nar = make_nar(CHUNK)
    async with opened(tmp_path) as cache:
        first = await keep(cache, nar)
        assert cache.nar(nar.nar_hash) is first
        assert await cache.load(nar.nar_hash) is first
        assert await cache.keep_index(nar.index) is first
    async with opened(tmp_path) as cache:
        loaded = await cache.load(nar.nar_hash)
        assert loaded is not None
        assert cache.nar(nar.nar_hash) is loaded


@pytest.mark.parametrize("slow_s", [60.0, 0.0])
async def test_many_are_looked_at_at_once_and_are_the_same_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_s: float
) -> None:
    monkeypatch.setattr(chunk_cache, "_LOADED_AT_ONCE", 16)
    monkeypatch.setattr(chunk_cache, "_SLOW_DISK_S", slow_s)
    nars = [make_nar(CHUNK + 8 * number) for number in range(70)]
    async with opened(tmp_path) as cache:
        for nar in nars[:-1]:
            await keep(cache, nar)
    async with opened(tmp_path) as cache:
        first = cache.nar(nars[5].nar_hash)
        *loaded, absent = await cache.load_all([(nar.nar_hash, b"") for nar in nars])
        assert absent is None
        assert first is not None
        assert loaded[5] is first
        for nar, cached in zip(nars, loaded, strict=False):
            assert cached is not None
            assert cached is cache.nar(nar.nar_hash)
            assert await read_all(cached) == nar.data


async def test_committing_a_nar_again_retires_the_old_object(tmp_path: Path) -> None:
    nar = make_nar(2 * CHUNK)
    async with opened(tmp_path) as cache:
        old = await keep(cache, nar)
        new = await keep(cache, nar)
        assert old.retired
        assert old.read_nowait(NarOffset(0), 1) is None
        assert await read_all(old) is None
        with pytest.raises(CacheUnusable):
            await old.write(0, nar.chunk(0))
        assert await read_all(new) == nar.data


async def test_an_index_that_two_keep_at_once_is_kept_once(tmp_path: Path) -> None:
    nar = make_nar(2 * CHUNK)
    async with opened(tmp_path) as cache:
        found = []

        async def keep_and_fill(chunk: int) -> None:
            cached = await cache.keep_index(nar.index, random_access=True)
            await cached.write(chunk, nar.chunk(chunk))
            found.append(cached)

        async with trio.open_nursery() as nursery:
            for chunk in range(2):
                nursery.start_soon(keep_and_fill, chunk)
        assert found[0] is found[1]
        assert await read_all(found[0]) == nar.data


async def test_files_that_are_being_replaced_are_not_opened(tmp_path: Path) -> None:
    nar = make_nar(2 * CHUNK)
    limiter = trio.to_thread.current_default_thread_limiter()
    async with opened(tmp_path) as cache:
        await cache.keep_index(nar.index, random_access=True)
        draft = await cache.begin(nar.nar_hash, len(nar.data))
        draft.path.write_bytes(nar.data)
        limiter.total_tokens = 1
        async with trio.open_nursery() as nursery, limiter:
            nursery.start_soon(partial(draft.commit, nar.index, random_access=True))
            await wait_all_tasks_blocked()
            assert cache.nar(nar.nar_hash) is None
            assert await cache.load(nar.nar_hash) is None
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert await read_all(cached) == nar.data


async def test_an_unknown_nar_is_none(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        assert cache.nar(bytes(32)) is None
        assert await cache.load(bytes(32)) is None


async def test_chunks_come_one_by_one_to_an_index_and_stay(tmp_path: Path) -> None:
    nar = make_nar(4 * CHUNK + 16)
    async with opened(tmp_path) as cache:
        cached = await cache.keep_index(nar.index, random_access=True)
        assert cached.missing(NarOffset(0), len(nar.data)) == [0, 1, 2, 3, 4]
        assert await read_all(cached) is None
        await cached.write(4, nar.chunk(4))
        await cached.write(1, memoryview(nar.chunk(1)))
        assert cached.missing(NarOffset(0), len(nar.data)) == [0, 2, 3]
        assert cached.read_nowait(NarOffset(CHUNK), CHUNK) == nar.chunk(1)
        with pytest.raises(ValueError, match="has 4096 bytes"):
            await cached.write(2, b"short")
    async with opened(tmp_path) as cache:
        again = cache.nar(nar.nar_hash)
        assert again is not None
        assert await again.read(NarOffset(4 * CHUNK), 16) == nar.chunk(4)
        assert again.missing(NarOffset(0), len(nar.data)) == [0, 2, 3]


async def test_a_dropped_nar_is_gone_at_once_and_its_blocks_later(tmp_path: Path) -> None:
    nar = make_nar(256 * CHUNK)
    async with opened(tmp_path) as cache:
        cached = await keep(cache, nar)
        cached.drop()
        cached.drop()
        assert cached.retired
        assert await read_all(cached) is None
        assert cache.nar(nar.nar_hash) is None
        await cache.catalog.flush()
        assert cache.statistics().used_bytes == 0
    assert list((tmp_path / "scratch").iterdir()) == []
    async with opened(tmp_path) as cache:
        assert cache.nar(nar.nar_hash) is None


async def test_a_draft_is_read_while_another_process_fills_it(tmp_path: Path) -> None:
    nar = make_nar(8 * CHUNK)
    async with opened(tmp_path) as cache:
        with await cache.begin(nar.nar_hash, len(nar.data)) as draft:
            assert draft.path.stat().st_size == 0
            draft.path.write_bytes(nar.data[: 3 * CHUNK])
            assert draft.read_nowait(NarOffset(5), 3 * CHUNK - 5) == nar.data[5 : 3 * CHUNK]
            assert await draft.read(NarOffset(CHUNK), CHUNK) == nar.chunk(1)
            assert draft.read_nowait(NarOffset(3 * CHUNK), 1) is None
            with pytest.raises(CacheUnusable):
                await draft.read(NarOffset(3 * CHUNK), 1)
            assert cache.nar(nar.nar_hash) is None
        assert draft.read_nowait(NarOffset(0), 1) is None
        with pytest.raises(CacheUnusable):
            await draft.read(NarOffset(0), 1)
        assert cache.statistics().drafts == 0
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_an_incomplete_draft_cannot_be_committed(tmp_path: Path) -> None:
    nar = make_nar(8 * CHUNK)
    async with opened(tmp_path) as cache:
        draft = await cache.begin(nar.nar_hash, len(nar.data))
        draft.path.write_bytes(nar.data[:-1])
        with pytest.raises(CacheUnusable, match="not complete"):
            await draft.commit(nar.index, random_access=False)
        other = await cache.begin(bytes(32), len(nar.data))
        with pytest.raises(ValueError, match="another NAR"):
            await other.commit(nar.index, random_access=False)
        assert cache.nar(nar.nar_hash) is None
        assert cache.statistics().used_bytes == 0


async def test_a_span_outside_the_nar_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    nar = make_nar(CHUNK)
    async with opened(tmp_path) as cache:
        cached = await keep(cache, nar)
        with pytest.raises(ValueError, match="no 2 bytes at 4095"):
            await cached.read(NarOffset(CHUNK - 1), 2)


async def test_what_is_held_after_closing_is_a_miss(tmp_path: Path) -> None:
    nar = make_nar(CHUNK)
    async with opened(tmp_path) as cache:
        cached = await keep(cache, nar)
        draft = await cache.begin(bytes(32), CHUNK)
    await cache.aclose()
    assert cached.read_nowait(NarOffset(0), 1) is None
    assert await read_all(cached) is None
    assert cache.nar(nar.nar_hash) is None
    assert not cache.can_take(1)
    with pytest.raises(CacheUnusable):
        await cache.begin(nar.nar_hash, CHUNK)
    with pytest.raises(CacheUnusable):
        await draft.read(NarOffset(0), 1)


async def _held(cache: ChunkCache, count: int) -> list[chunk_cache.CachedNar]:
    return [await keep(cache, make_nar(CHUNK, seed=seed)) for seed in range(count)]


async def test_descriptors_of_nars_are_bounded_and_opened_again(tmp_path: Path) -> None:
    before = open_descriptors()
    async with opened(tmp_path) as cache:
        nars = await _held(cache, chunk_cache._OPENED_MAX + 10)
        assert open_descriptors() < before + 2 * chunk_cache._OPENED_MAX + 20
        assert nars[0].read_nowait(NarOffset(0), 8) is None
        assert await nars[0].read(NarOffset(0), 8) == make_nar(CHUNK).data[:8]
        assert nars[0].read_nowait(NarOffset(0), 8) is not None
        nars.clear()
    assert open_descriptors() <= before


async def test_a_large_index_is_read_not_mapped(tmp_path: Path) -> None:
    large = make_nar(12 * MIB, chunk_bytes=1024)
    async with opened(tmp_path) as cache:
        await keep(cache, large)
    async with opened(tmp_path) as cache:
        cached = cache.nar(large.nar_hash)
        assert cached is not None
        assert cached.index.digests == large.index.digests
        assert base32.encode(large.nar_hash) not in mapped_files()


class Hung:
    """A file on a disk that does not answer until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def read(self, *_: object) -> NoReturn:
        self.let_go.wait(20)
        raise OSError(errno.EIO, "let go")


async def test_a_disk_that_hangs_keeps_nobody_beyond_his_deadline(tmp_path: Path) -> None:
    nar, hung = make_nar(4 * CHUNK), Hung()
    async with opened(tmp_path / "cache") as cache:
        cached = await keep(cache, nar)
        cached._file, file = hung, cached._file  # type: ignore[assignment]  # it looks like a NarFile to a reader
        with trio.move_on_after(0.1) as scope:
            await cached.read(NarOffset(0), CHUNK)
        waited_for = scope.cancelled_caught and not hung.let_go.is_set()
        hung.let_go.set()
        cached._file = file
        assert waited_for
        assert await read_all(cached) == nar.data
