"""Sealed indexes that are too long to be fetched whole: the head first, pages when they are needed."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Unavailable
from narfs.formats.seal import PROLOGUE_BYTES, head_end, index_name, seal
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.offsets import NarOffset
from tests.engine.conftest import House, contents, read_tree
from tests.support.faults import Fault, Stall
from tests.support.lakes import Recipe
from tests.support.sealing import add_sealed, huge_index, index_file, seal_tree
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from tests.support.lakes import Member
    from tests.support.server import Server

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
NOISE = random.Random(11).randbytes(3_000_000)  # noqa: S311 - any noise will do
TREE: Tree = {b"big": File(NOISE), b"small": {b"%02d" % number: File(NOISE[: 50 * number]) for number in range(20)}}
HEAD_ONLY = 50
"""Bytes of the first request: the prologue is in it, and no page."""


@pytest.fixture
def member(house: House, monkeypatch: pytest.MonkeyPatch) -> Member:
    """A path of 48 chunks, so six pages of eight; no index is short enough to come whole."""
    monkeypatch.setattr("narfs.engine.sealed.BEGINNING_BYTES", HEAD_ONLY)
    return add_sealed(house.lake, "tree", TREE, KEY)


def asked(server: Server) -> list[tuple[int, int]]:
    """The parts of indexes that were asked for."""
    ranges = [one.range or "" for one in server.asked("/*.narfs")]
    return [(int(first), int(last) + 1) for first, last in (each.removeprefix("bytes=").split("-") for each in ranges)]


def flip_page(house: House, member: Member, page: int) -> None:
    """Change one byte of a page."""
    file = index_file(house.lake, member.narinfo)
    data = bytearray(file.read_bytes())
    data[head_end(bytes(data[:PROLOGUE_BYTES])) + page * 8 * 40 + 100] ^= 1
    file.write_bytes(data)


async def test_a_nar_of_100_gb_shows_its_tree_after_the_head_and_is_read_after_one_page(
    house: House, server: Server
) -> None:
    index, narinfo, frame = huge_index(100_000 << 20)
    narinfo = narinfo.sign(house.lake.secret_key).with_index(index_name(narinfo.path))
    house.lake.put(narinfo)
    encoded = seal(index, narinfo, [KEY])
    index_file(house.lake, narinfo).write_bytes(encoded)
    with (house.lake.directory / narinfo.url).open("wb") as blob:
        for _ in range(index.grid.count):
            blob.write(frame.blob)
    async with house.open(server.url, cached=False, index_keys=KEYS) as store:
        accessor = await store.find(narinfo.path)
        [child] = await accessor.children(0)
        assert await accessor.name(child) == b"zeros"
        assert asked(server) == [(0, 1 << 20)]
        start = NarOffset(54_321_000_000)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(accessor.read, start, 100_000)
        assert await accessor.read(start, 100_000) == bytes(100_000)
        [_, (first, end)] = asked(server)
        assert end - first == 160 * 1024
        assert sum(one.sent_bytes for one in server.asked("/nar/*")) < 3 * len(frame.blob)
        assert store.statistics().counters.index_pages_fetched == 1


async def test_without_a_cache_only_those_pages_come_that_reads_need(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, cached=False, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        assert len(await accessor.children(0)) == len(TREE)  # type: ignore[arg-type]  # a dict
        assert len(asked(server)) == 2  # the prologue, the rest of the head
        for _ in range(3):
            assert await contents(accessor, b"small", b"10") == NOISE[:500]
        assert store.statistics().counters.index_pages_fetched == 1
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.index_pages_fetched == 6
        assert store.statistics().counters.passes_begun == 0


async def test_behind_the_first_read_all_pages_come_and_the_cache_keeps_the_index(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.children(0)
        assert len(asked(server)) == 2
        assert await contents(accessor, b"small", b"10") == NOISE[:500]
        assert accessor._contents is not None
        assert accessor._contents._keeping is not None
        await accessor._contents._keeping.result()
        assert store.statistics().counters.index_pages_fetched == 6
        assert await read_tree(accessor) == TREE
        with trio.fail_after(60):  # readers have the bytes a little before the cache
            while (data := accessor.read_nowait(NarOffset(1_000_000), 1000)) is None:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert data == member.nar[1_000_000:1_001_000]
    server.log.clear()
    async with house.open(server.url, index_keys=KEYS) as store:
        assert await read_tree(await store.find(member.path)) == TREE
    assert not server.log


@pytest.mark.parametrize("cached", [True, False])
async def test_a_page_that_is_not_the_signed_one_is_refused_and_the_whole_nar_read(
    house: House, member: Member, cached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    flip_page(house, member, 3)
    async with house.open(cached=cached, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        assert await contents(accessor, b"small", b"10") == NOISE[:500]
        assert store.statistics().counters.passes_begun == 0
        assert await read_tree(accessor) == TREE
        counters = store.statistics().counters
        assert (counters.indexes_taken, counters.indexes_refused, counters.passes_verified) == (1, 1, 1)
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "page 3 is not the one that was signed; the whole NAR is read instead" in warning


async def test_a_bad_page_that_nobody_needs_costs_nothing(house: House, member: Member) -> None:
    flip_page(house, member, 0)
    async with house.open(index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        for _ in range(3):
            assert await contents(accessor, b"small", b"10") == NOISE[:500]
            await trio.testing.wait_all_tasks_blocked()
        assert store.statistics().counters.passes_begun == 0
        assert store.statistics().counters.indexes_refused == 0


async def test_a_page_that_cannot_be_fetched_now_fails_the_read_and_fetches_no_nar(
    house: House, server: Server, member: Member, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 10
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.children(0)
        server.on("/*.narfs", Fault(status=501))
        for _ in range(2):
            with pytest.raises(Unavailable):
                await read_tree(accessor)
        assert store.statistics().counters.passes_begun == 0
        server.behave()
        mock_clock.jump(2)
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.passes_begun == 0
        assert store.statistics().counters.indexes_refused == 0


async def test_a_page_in_which_a_bit_flipped_on_its_way_is_asked_for_once_more(
    house: House, server: Server, member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    async with house.open(server.url, cached=False, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.children(0)
        prologue = index_file(house.lake, member.narinfo).read_bytes()[:PROLOGUE_BYTES]
        server.on("/*.narfs", Fault(flip_at=head_end(prologue) + 100), times=1)
        assert await contents(accessor, b"big") == NOISE
        assert store.statistics().counters.passes_begun == 0
    assert caplog.records == []


async def test_an_index_that_ends_in_the_middle_of_a_page_is_refused(house: House, member: Member) -> None:
    file = index_file(house.lake, member.narinfo)
    file.write_bytes(file.read_bytes()[:-10])
    async with house.open(index_keys=KEYS) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.indexes_refused == 1


async def test_readers_of_one_page_share_its_flight_and_one_that_gives_up_leaves_it(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, cached=False, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.children(0)
        server.on("/*.narfs", Fault(stall=(stalled := Stall())))
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(partial(contents, accessor, b"small", b"10"))
            with trio.CancelScope() as impatient:
                nursery.start_soon(partial(contents, accessor, b"small", b"11"))
                await stalled.reached.wait()
                impatient.cancel()
            stalled.released.set()
        assert store.statistics().counters.index_pages_fetched == 1
        assert len(asked(server)) == 3


async def test_frames_of_others_that_reach_over_pages_bring_those_pages(
    house: House, server: Server, member: Member
) -> None:
    del member
    other = house.lake.add("framed", TREE, Recipe("zstd", frame_bytes=700_000))
    async with house.open() as store:
        accessor = await store.find(other.path)
        await accessor.settle()
        assert accessor._contents is not None
        index = accessor._contents.index
    narinfo = other.narinfo.with_index(index_name(other.path))
    index_file(house.lake, narinfo).write_bytes(seal(index, narinfo, [KEY], page_chunks=1))
    house.lake.put(narinfo)
    async with house.open(server.url, cached=False, index_keys=KEYS) as store:
        accessor = await store.find(other.path)
        assert await accessor.read(NarOffset(1_000_000), 1000) == other.nar[1_000_000:1_001_000]
        assert store.statistics().counters.index_pages_fetched == 4  # a frame of 700 000 bytes touches as many chunks
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.passes_begun == 0


async def test_a_solid_blob_needs_no_pages_where_a_cache_takes_its_pass(
    house: House, server: Server, member: Member
) -> None:
    del member
    other = house.lake.add("solid", TREE, Recipe("xz"))
    index = seal_tree("solid", TREE, frame_bytes=65_536).index
    narinfo = other.narinfo.with_index(index_name(other.path))
    index_file(house.lake, narinfo).write_bytes(
        seal(index, seal_tree("solid", TREE, frame_bytes=65_536).narinfo, [KEY], page_chunks=8)
    )
    house.lake.put(narinfo)
    for cached in (True, False):
        async with house.open(server.url, cached=cached, index_keys=KEYS) as store:
            accessor = await store.find(other.path)
            assert len(await accessor.children(0)) == len(TREE)  # type: ignore[arg-type]  # a dict
            assert await read_tree(accessor) == TREE
            counters = store.statistics().counters
            assert counters.index_pages_fetched == (0 if cached else 6)
            assert counters.passes_begun == (1 if cached else 0)
