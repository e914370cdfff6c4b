"""What came ahead of a reader is read from memory, once."""
# ruff: noqa: ARG001 - what the clock is for is that nobody waits for it

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio
import trio.testing

from narfs.engine.ahead.bringing import Allowance, Want, bring
from narfs.engine.fresh import MOST_BYTES, STALE_S, Fresh
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.offsets import ChunkGrid, NarOffset, NarSpan
from tests.support.sealing import add_sealed
from tests.support.server import serve
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from narfs.engine.accessor import NarAccessor
    from narfs.engine.means import Means
    from narfs.engine.store import Store
    from tests.engine.conftest import House

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
LARGE = random.Random(5).randbytes(6_000_000)  # noqa: S311 - any noise will do
READ = 128 * 1024
CHUNK = 256 * 1024
GRID = ChunkGrid(3 * CHUNK)
CHUNKS = {chunk: bytes([chunk]) * CHUNK for chunk in range(3)}


async def test_any_span_of_what_came_is_given_and_nothing_of_what_did_not(nursery: trio.Nursery) -> None:
    fresh = Fresh()
    fresh.put("nar", {0: CHUNKS[0], 1: CHUNKS[1]}, nursery)
    assert fresh.read("nar", GRID, 10, 20) == bytes(20)
    assert fresh.read("nar", GRID, CHUNK - 1, 3) == b"\0\1\1"
    assert fresh.read("nar", GRID, 0, 2 * CHUNK) == CHUNKS[0] + CHUNKS[1]
    assert fresh.read("nar", GRID, 2 * CHUNK - 1, 2) is None
    assert fresh.read("another", GRID, 0, 1) is None
    fresh.drop("nar", 0)
    assert fresh.read("nar", GRID, 0, 1) is None
    assert fresh.read("nar", GRID, CHUNK, 1) == b"\1"


async def test_the_oldest_make_room_and_what_nobody_reads_is_forgotten(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    fresh = Fresh()
    fresh.put("nar", dict.fromkeys(range(2 * MOST_BYTES // CHUNK), bytes(CHUNK)), nursery)
    assert len(fresh) * CHUNK == MOST_BYTES
    await trio.sleep(STALE_S / 2)
    fresh.put("another", CHUNKS, nursery)
    fresh.put("another", CHUNKS, nursery)  # fetched once more
    assert len(fresh) * CHUNK == MOST_BYTES
    assert fresh.read("another", GRID, 0, 1) == b"\0"
    await trio.sleep(STALE_S / 2 + 1)
    assert not fresh.holds("nar")
    assert len(fresh) == len(CHUNKS)
    await trio.sleep(STALE_S / 2)
    assert not fresh
    assert not fresh.holds("another")


async def test_forgetting_takes_one_task_while_there_is_something(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    fresh = Fresh()
    for _ in range(2):
        for chunk in range(100):
            fresh.put("nar", {chunk: bytes(CHUNK)}, nursery)
        assert len(nursery.child_tasks) == 1
        await trio.sleep(STALE_S + 1)
        assert not fresh
        assert not nursery.child_tasks


@pytest.fixture
async def place(house: House, nursery: trio.Nursery) -> AsyncIterator[Place]:
    member = add_sealed(house.lake, "sealed", {b"large": File(LARGE)}, KEY, frame_bytes=CHUNK)
    server = await nursery.start(serve, house.lake.directory)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        child = await accessor.child(0, b"large")
        assert child is not None
        start = (await accessor.node(child)).nar_offset
        await accessor.read(start, 1)
        contents = accessor._contents
        assert contents is not None
        await trio.testing.wait_all_tasks_blocked()
        yield Place(store, accessor, contents._means, start)
    assert not contents._means.fresh


class Place(NamedTuple):
    """Where a large file begins, of which one byte was read."""

    store: Store
    accessor: NarAccessor
    means: Means
    start: int

    async def read_all(self, read_bytes: int) -> int:
        """Read the file as the mount does; how often that had to wait."""
        waited = 0
        for at in range(0, len(LARGE), read_bytes):
            length = min(read_bytes, len(LARGE) - at)
            place = NarOffset(self.start + at)
            data = self.accessor.read_nowait(place, length)
            if data is None:
                waited += 1
                data = await self.accessor.read(place, length)
            assert data == LARGE[at : at + length]
        return waited


async def test_who_follows_does_not_wait_for_the_caches_disk(place: Place) -> None:
    cache = place.means.cache
    assert cache is not None
    disk, others = cache._means.threads, [object() for _ in range(64)]
    others = others[: int(disk.available_tokens)]
    for other in others:
        disk.acquire_on_behalf_of_nowait(other)
    hits_before = cache.statistics().hits
    waited = await place.read_all(READ)
    assert waited <= 15  # of 46, for the lake; the disk has not written a byte
    assert cache.statistics().hits - hits_before == -(-len(LARGE) // READ) - waited
    for other in others:
        disk.release_on_behalf_of(other)


async def test_what_he_has_waited_for_is_read_too(place: Place) -> None:
    assert await place.read_all(CHUNK) > 0
    counters = place.store.statistics().counters
    assert counters.ahead_used_bytes == counters.ahead_fetched_bytes
    assert len(place.means.fresh) <= 1  # the end of the NAR is no file's


async def test_what_no_program_is_about_to_read_takes_no_room(place: Place) -> None:
    """A prefetch, or a pin: it would drive out what somebody follows."""
    before = len(place.means.fresh)
    brought = await bring(
        [Want(place.accessor, NarSpan(NarOffset(place.start), NarOffset(place.start + len(LARGE))))], Allowance()
    )
    assert brought.chunks > 10
    assert len(place.means.fresh) <= before


async def test_who_has_nothing_there_is_not_watched(place: Place, nursery: trio.Nursery) -> None:
    contents = place.accessor._contents
    assert contents is not None
    assert await place.read_all(READ) > 0
    following, fetcher = contents._following, contents._fetcher
    following._streams._streams.clear()
    fetcher.unread.clear()
    for chunk in contents.index.grid.covering(NarOffset(0), contents.index.nar_size):
        place.means.fresh.drop(fetcher, chunk)
    place.means.fresh.put("another", CHUNKS, nursery)
    assert not following.watches
    place.means.fresh.put(fetcher, {0: CHUNKS[0]}, nursery)
    assert following.watches
