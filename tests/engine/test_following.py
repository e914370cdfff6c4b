"""What a lake is asked for when programs read forward."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.formats.signature import PublicKeys, SecretKey
from narfs.lake.account import Account
from narfs.offsets import NarOffset
from tests.support.faults import Fault
from tests.support.lakes import Lake, Member, Recipe
from tests.support.sealing import add_sealed
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from narfs.engine.accessor import NarAccessor
    from tests.engine.conftest import House
    from tests.support.server import Server

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
NOISE = random.Random(8).randbytes(3_000_000)  # noqa: S311 - any noise will do
LARGE = NOISE * 6
TREE: Tree = {b"large": File(LARGE), b"next": File(NOISE)}
READ = 128 * 1024


def sealed(lake: Lake) -> Member:
    return add_sealed(lake, "sealed", TREE, KEY, frame_bytes=256 * 1024)


async def place_of(accessor: NarAccessor, name: bytes) -> int:
    child = await accessor.child(0, name)
    assert child is not None
    return (await accessor.node(child)).nar_offset


async def read(accessor: NarAccessor, start: int, length: int = READ) -> bytes:
    """Read as the mount does."""
    place = NarOffset(start)
    return accessor.read_nowait(place, length) or await accessor.read(place, length)


async def read_forward(accessor: NarAccessor, member: Member, start: int, end: int) -> None:
    for place in range(start, end, READ):
        length = min(READ, end - place)
        assert await read(accessor, place, length) == member.nar[place : place + length]


@pytest.mark.parametrize("layout", ["sealed", "none", "zstd frames"])
async def test_a_file_comes_in_large_requests_and_once(house: House, server: Server, layout: str) -> None:
    recipes = {
        "none": Recipe("none"),
        "zstd frames": Recipe("zstd", frame_bytes=1 << 20),
    }
    member = sealed(house.lake) if layout == "sealed" else house.lake.add("tree", TREE, recipes[layout])
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        start = await place_of(accessor, b"large")
        if layout != "sealed":  # known, and evicted
            contents = accessor._contents
            assert contents is not None
            assert contents.cached is not None
            contents.cached.forget(range(contents.cached._layout.segments))
        server.log.clear()
        await read_forward(accessor, member, start, start + len(LARGE))
        asked = server.asked("/nar/*")
        assert len(asked) <= 40
        assert sum(one.sent_bytes for one in asked) < 1.03 * len(LARGE) + (1 << 20)
        counters = store.statistics().counters
        assert counters.ahead_used_bytes > 0.9 * len(LARGE)
        assert counters.ahead_fetched_bytes - counters.ahead_used_bytes < 2 << 20


async def test_of_a_file_that_is_touched_here_and_there_nothing_comes_ahead(house: House, server: Server) -> None:
    member = sealed(house.lake)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        start = await place_of(accessor, b"large")
        for offset in range(0, len(LARGE) - READ, 2_000_000):
            await read(accessor, start + offset, 4096)
        assert store.statistics().counters.ahead_fetched_bytes == 0


async def test_who_reads_is_who_pays_for_what_comes_ahead_of_him(house: House, server: Server) -> None:
    member = sealed(house.lake)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        start = await place_of(accessor, b"large")
        account = Account("view")
        server.log.clear()
        for place in range(start, start + len(LARGE) - READ, READ):
            data = accessor.read_nowait(NarOffset(place), READ)  # as the mount does: nobody is named
            if data is None:
                await account.pays(accessor.read, NarOffset(place), READ)
        assert account.received_bytes == sum(one.sent_bytes for one in server.asked("/nar/*"))


async def test_several_readers_of_a_file_share_what_comes(house: House, server: Server) -> None:
    member = sealed(house.lake)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        start = await place_of(accessor, b"large")
        async with trio.open_nursery() as readers:
            for _ in range(4):
                readers.start_soon(read_forward, accessor, member, start, start + len(LARGE))
        assert sum(one.sent_bytes for one in server.asked("/nar/*")) < 1.03 * len(LARGE)


async def test_who_walks_over_many_small_files_does_not_wait_for_each(house: House, server: Server) -> None:
    tree: Tree = {b"%04d" % number: File(NOISE[number : number + 5000]) for number in range(500)}
    member = add_sealed(house.lake, "many", tree, KEY, frame_bytes=256 * 1024)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        for child in await accessor.children(0):
            node = await accessor.node(child)
            await read(accessor, node.nar_offset, node.size)
        asked = server.asked("/nar/*")
        assert len(asked) <= 20  # of 39 chunks
        assert sum(one.sent_bytes for one in asked) < 1.1 * len(member.nar)


async def test_a_failure_ahead_is_nobodys_until_he_reads_there(house: House, server: Server) -> None:
    member = sealed(house.lake)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        start = await place_of(accessor, b"large")
        await read_forward(accessor, member, start, start + 2 * READ)
        server.on("/nar/*", Fault(status=404))
        await read_forward(accessor, member, start, start + 2 * READ)
        server.behave()
        await read_forward(accessor, member, start, start + len(LARGE))
