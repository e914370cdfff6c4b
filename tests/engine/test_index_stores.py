"""Sealed indexes from a lake of one's own, for paths of a lake that is not; and narinfos that are older than a seal."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import NarfsError
from narfs.formats.signature import PublicKeys, SecretKey
from tests.engine.conftest import House, contents, read_tree
from tests.support.faults import Fault, Stall
from tests.support.lakes import Lake, Recipe
from tests.support.sealing import add_sealed, index_file, seal_tree
from tests.support.server import Server, serve
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lakes import Member

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
NOISE = random.Random(7).randbytes(1_000_000)  # noqa: S311 - any noise will do
TREE: Tree = {b"big": File(NOISE), b"small": {b"%02d" % number: File(NOISE[: 50 * number]) for number in range(20)}}


@pytest.fixture
def indexes(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "indexes")


@pytest.fixture
def member(house: House, indexes: Lake) -> Member:
    return add_sealed(house.lake, "tree", TREE, KEY, index_store=indexes)


@pytest.fixture
async def store_server(indexes: Lake, nursery: trio.Nursery) -> Server:
    started: Server = await nursery.start(serve, indexes.directory)
    return started


async def test_a_path_is_read_in_parts_with_an_index_from_a_store(
    house: House, server: Server, store_server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS, index_stores=[store_server.url]) as store:
        accessor = await store.find(member.path)
        await accessor.peek()
        assert len(await accessor.children(0)) == len(TREE)  # type: ignore[arg-type]  # a dict
        assert not server.asked("/nar/*")
        assert await contents(accessor, b"small", b"10") == NOISE[:500]
        assert await read_tree(accessor) == TREE
        counters = store.statistics().counters
        assert (counters.passes_begun, counters.indexes_taken, counters.indexes_from_stores) == (0, 1, 1)
    assert [one.path for one in store_server.log] == ["/nix-cache-info", f"/{member.path.hash_part}.narfs"]
    assert not server.asked("/*.narfs")


async def test_any_sealed_lake_can_be_an_index_store(house: House, tmp_path: Path) -> None:
    sealed = Lake(tmp_path / "sealed")
    add_sealed(sealed, "tree", TREE, KEY)
    member = add_sealed(house.lake, "tree", TREE, KEY, index_store=Lake(tmp_path / "nobody asks"))
    async with house.open(index_keys=KEYS, index_stores=[sealed.url]) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.passes_begun == 0


async def test_the_lake_s_own_index_is_asked_for_first_and_stores_in_their_order(
    house: House, indexes: Lake, store_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    member = add_sealed(house.lake, "tree", TREE, KEY)
    add_sealed(house.lake, "other", TREE, KEY, index_store=indexes)
    async with house.open(index_keys=KEYS, index_stores=[store_server.url]) as store:
        assert await read_tree(await store.find(member.path)) == TREE
    assert not store_server.log
    own, second = index_file(house.lake, member.narinfo), Lake(tmp_path / "second")
    index_file(second, member.narinfo).write_bytes(own.read_bytes())
    own.write_bytes(b"of no use")
    index_file(indexes, member.narinfo).write_bytes(b"neither")
    async with house.open(cached=False, index_keys=KEYS, index_stores=[store_server.url, second.url]) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        counters = store.statistics().counters
        assert (counters.passes_begun, counters.indexes_refused, counters.indexes_from_stores) == (0, 2, 1)
    assert [record.getMessage().split(":")[1] for record in caplog.records if record.levelname == "WARNING"] == [
        " file",
        " http",
    ]


async def test_without_index_keys_no_store_is_asked(house: House, store_server: Server, member: Member) -> None:
    async with house.open(index_stores=[store_server.url]) as store:
        assert await read_tree(await store.find(member.path)) == TREE
    assert not store_server.log


async def test_an_absent_index_is_asked_for_once(house: House, server: Server, store_server: Server) -> None:
    plain = house.lake.add("plain", TREE)
    async with house.open(server.url, index_keys=KEYS, index_stores=[store_server.url]) as store:
        accessor = await store.find(plain.path)
        await accessor.peek()
        assert await read_tree(accessor) == TREE
    assert len(store_server.asked("/*.narfs")) == 1


async def test_a_store_that_is_down_is_told_of_once_and_stops_nothing(
    house: House, store_server: Server, member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    sealed = add_sealed(house.lake, "sealed", {b"other": TREE}, KEY)
    plain = house.lake.add("plain", File(b"x"))
    store_server.on("/*", Fault(status=503))
    async with house.open(index_keys=KEYS, index_stores=[store_server.url]) as store:
        for one in (member, sealed, plain):
            assert await read_tree(await store.find(one.path)) == one.tree
        assert store.statistics().counters.indexes_taken == 1
        assert store.statistics().counters.passes_verified == 2
        assert store.means.index_stores.statistics().resting == (store_server.url,)
    assert len(store_server.log) <= 4, "two attempts of the one that asked, two to see whether it is down"
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert store_server.url in warning


async def test_a_store_that_is_down_is_asked_again_when_the_nar_was_not_to_be_had_either(
    house: House, server: Server, store_server: Server, member: Member, mock_clock: trio.testing.MockClock
) -> None:
    for each in (server, store_server):
        each.on("/*", Fault(status=404))
    server.behave()
    async with house.open(server.url, index_keys=KEYS, index_stores=[store_server.url]) as store:
        accessor = await store.find(member.path)
        server.on("/*", Fault(status=404))
        with pytest.raises(NarfsError):
            await accessor.children(0)
        server.behave()
        store_server.behave()
        mock_clock.jump(61)
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.indexes_from_stores == 1


async def test_the_indexes_of_many_paths_are_asked_for_at_once(
    house: House, indexes: Lake, server: Server, store_server: Server
) -> None:
    """A closed View learns the root nodes of all its paths before it is usable."""
    members = [add_sealed(house.lake, "tree", {b"%d" % number: TREE}, KEY, index_store=indexes) for number in range(5)]
    async with house.open(server.url, index_keys=KEYS, index_stores=[store_server.url]) as store:
        accessors = [await store.find(each.path) for each in members]
        stalls = [Stall() for _ in members]
        for stall in stalls:
            store_server.on("/*.narfs", Fault(stall=stall), times=1)
        async with trio.open_nursery() as nursery:
            for accessor in accessors:
                nursery.start_soon(accessor.peek)
            for stall in stalls:
                await stall.reached.wait()
            for stall in stalls:
                stall.released.set()
        assert all(accessor.verified for accessor in accessors)
    assert not server.asked("/nar/*")


class TestANarinfoThatIsOlderThanTheSeal:
    """The catalog keeps narinfos for ever; the line that tells of an index came later."""

    @pytest.fixture
    async def member(self, house: House, server: Server) -> Member:
        """A path of which the cache knows the narinfo, and nothing else, since before its lake was sealed."""
        member = add_sealed(house.lake, "tree", TREE, KEY, index_store=Lake(house.lake.directory))
        async with house.open(server.url, index_keys=KEYS) as store:
            await store.find(member.path)
        server.log.clear()
        return member

    async def test_it_is_asked_for_again_before_a_whole_nar_is_read(
        self, house: House, server: Server, member: Member
    ) -> None:
        house.lake.put(member.narinfo.with_index(f"{member.path.hash_part}.narfs"))
        for _ in range(2):
            async with house.open(server.url, index_keys=KEYS) as store:
                assert await contents(await store.find(member.path), b"small", b"10") == NOISE[:500]
                assert store.statistics().counters.passes_begun == 0
        assert len(server.asked("/*.narinfo")) == 1
        assert len(server.asked("/*.narfs")) == 1

    async def test_its_lake_may_have_been_packed_anew_as_well(
        self, house: House, server: Server, member: Member
    ) -> None:
        house.lake.blob_file(member).unlink()
        add_sealed(house.lake, "tree", TREE, KEY, frame_bytes=100_000)
        async with house.open(server.url, index_keys=KEYS) as store:
            assert await read_tree(await store.find(member.path)) == TREE
            assert store.statistics().counters.passes_begun == 0

    async def test_that_costs_one_request_where_nothing_was_sealed(
        self, house: House, server: Server, member: Member
    ) -> None:
        async with house.open(server.url, index_keys=KEYS) as store:
            accessor = await store.find(member.path)
            await accessor.peek()
            assert await read_tree(accessor) == TREE
        assert len(server.asked("/*.narinfo")) == 1
        server.log.clear()
        async with house.open(server.url, index_keys=KEYS) as store:
            assert await read_tree(await store.find(member.path)) == TREE
        assert not server.log

    async def test_nothing_is_asked_without_index_keys(self, house: House, server: Server, member: Member) -> None:
        async with house.open(server.url) as store:
            assert await read_tree(await store.find(member.path)) == TREE
        assert not server.asked("/*.narinfo")

    async def test_another_nar_of_the_same_name_does_not_take_its_place(
        self, house: House, server: Server, member: Member
    ) -> None:
        other = seal_tree("tree", {**TREE, b"more": File(b"")}, frame_bytes=65_536).narinfo  # type: ignore[dict-item]  # a dict
        wrong = other.to_bytes().replace(other.path.base_name.encode(), member.path.base_name.encode())
        house.lake.narinfo_file(member.path).write_bytes(wrong)
        async with house.open(f"{server.url}?trusted=1", index_keys=KEYS) as store:
            assert await read_tree(await store.find(member.path)) == TREE


async def test_an_index_of_nobody_trusted_in_a_store_is_refused(
    house: House, indexes: Lake, member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = SecretKey.generate("index.test-1")
    add_sealed(house.lake, "tree", TREE, stranger, index_store=indexes)
    async with house.open(index_keys=KEYS, index_stores=[indexes.url]) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.indexes_refused == 1
    assert "no trusted index key" in caplog.text


async def test_a_solid_blob_of_another_lake_shows_its_tree_from_the_store(
    house: House, server: Server, indexes: Lake
) -> None:
    add_sealed(house.lake, "tree", TREE, KEY, index_store=indexes)
    member = house.lake.add("tree", TREE, Recipe("xz"))
    async with house.open(server.url, index_keys=KEYS, index_stores=[indexes.url]) as store:
        accessor = await store.find(member.path)
        assert len(await accessor.children(0)) == len(TREE)  # type: ignore[arg-type]  # a dict
        assert not server.asked("/nar/*")
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.passes_verified == 1
