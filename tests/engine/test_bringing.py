"""Parts of NARs come before anybody asks, in order, within an allowance, and are paid for by whoever wanted them."""

from __future__ import annotations

import random
from itertools import count
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs.cache.cached_nar import CachedNar
from narfs.engine import keeping
from narfs.engine.ahead.bringing import Allowance, Want, bring
from narfs.engine.contents import Contents
from narfs.errors import CacheUnusable, OverQuota
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.lake.account import Account
from narfs.offsets import NarOffset, NarSpan
from tests.engine.conftest import contents
from tests.support.faults import Fault, Stall
from tests.support.lakes import Member, Recipe
from tests.support.sealing import add_sealed
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from narfs.engine.accessor import NarAccessor
    from narfs.engine.ranges import Chunks
    from narfs.engine.store import Store
    from tests.engine.conftest import House
    from tests.support.server import Server

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
NOISE = random.Random(6).randbytes(3_000_000)  # noqa: S311 - any noise will do
TREE: Tree = {b"big": File(NOISE)}


@pytest.fixture
def member(house: House) -> Member:
    return add_sealed(house.lake, "tree", TREE, KEY)


def whole(accessor: NarAccessor) -> Want:
    return part(accessor, 0, accessor.nar_size)


def part(accessor: NarAccessor, start: int, end: int) -> Want:
    return Want(accessor, NarSpan(NarOffset(start), NarOffset(end)))


async def let_go(stall: Stall) -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)
    stall.released.set()


async def test_what_was_brought_is_read_without_another_request(house: House, server: Server, member: Member) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        brought = await bring([whole(accessor)], Allowance())
        assert (brought.bytes, brought.failed, brought.stopped_by) == (len(member.nar), 0, None)
        asked = len(server.asked("/nar/*"))
        assert brought.requests == asked
        assert await contents(accessor, b"big") == NOISE
        assert len(server.asked("/nar/*")) == asked
        counters = store.statistics().counters
        assert counters.ahead_fetched_bytes == len(member.nar)
        assert 0.95 * len(NOISE) < counters.ahead_used_bytes <= len(member.nar)


async def test_what_is_here_already_is_not_fetched_again(house: House, server: Server, member: Member) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await bring([part(accessor, 1_000_000, 2_000_000)], Allowance())
        await bring([whole(accessor)], Allowance())
        await bring([whole(accessor)], Allowance())
        assert sum(one.sent_bytes for one in server.asked("/nar/*")) < 1.01 * len(member.nar)


async def test_wants_are_served_in_their_order(house: House, server: Server, member: Member) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        starts = [2_000_000, 500_000, 1_500_000]
        for _ in starts:  # requests that are on their way together arrive in any order, so it may begin one at a time
            await bring([part(accessor, start, start + 1000) for start in starts], Allowance(1))
        first = [int(one.headers["range"].removeprefix("bytes=").partition("-")[0]) for one in server.asked("/nar/*")]
        assert len(first) == 3
        assert sorted(range(3), key=first.__getitem__) == [1, 2, 0]


async def test_neighbours_come_together(house: House, server: Server, member: Member) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await bring([part(accessor, start, start + 10_000) for start in range(0, 1_000_000, 20_000)], Allowance())
        assert len(server.asked("/nar/*")) < 16 + 2


async def all_kept(store: Store) -> None:
    with trio.fail_after(60):
        while store.means.governor.held_bytes:  # noqa: ASYNC110 - nobody is told
            await trio.sleep(0.01)


async def test_it_stops_where_its_allowance_does(house: House, server: Server, member: Member) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        allowance = Allowance(500_000)
        brought = await bring([whole(accessor)], allowance)
        assert brought.stopped_by == "allowance"
        assert allowance.left == 0
        assert 500_000 <= sum(one.sent_bytes for one in server.asked("/nar/*")) < 500_000 + 1_100_000
        asked = len(server.asked("/nar/*"))
        assert (await bring([whole(accessor)], allowance)).stopped_by == "allowance"
        assert len(server.asked("/nar/*")) == asked


async def test_while_nothing_is_known_of_a_lake_who_tries_waits_for_no_reader(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.settle()
        beginning = [part(accessor, 0, 1000)]
        with store.means.governor.waiting():
            with trio.move_on_after(0.2) as patience:
                await bring(beginning, Allowance())
            assert patience.cancelled_caught
            with trio.fail_after(2):
                assert (await bring(beginning, Allowance(), trying=True)).chunks > 0
            contents_ = await accessor.contents_for(whole(accessor).span)
            assert contents_ is not None
            store.means.governor.pace(contents_.lake).known = True
            with trio.move_on_after(0.2) as patience:
                await bring([whole(accessor)], Allowance(), trying=True)
            assert patience.cancelled_caught


async def test_the_account_of_who_wanted_it_pays_and_its_quota_ends_it(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.settle()
        account = Account("view", quota_bytes=300_000)
        with account.paying():
            brought = await bring([whole(accessor)], Allowance())
        assert brought.stopped_by == "quota"
        assert account.received_bytes == sum(one.sent_bytes for one in server.asked("/nar/*"))
        assert await contents(accessor, b"big") == NOISE  # for who has no quota
        with pytest.raises(OverQuota):
            account.require()


async def test_a_bug_in_planning_costs_nobody_his_turn(
    house: House, server: Server, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_ahead(_: Contents, span: NarSpan, most_bytes: int) -> bool:
        if most_bytes > 1:
            raise ZeroDivisionError(span)
        return True  # there is something to plan

    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        monkeypatch.setattr(Contents, "plan_ahead", plan_ahead)
        with pytest.RaisesGroup(ZeroDivisionError):
            await bring([whole(accessor)], Allowance())
        assert store.means.governor.held_bytes == 0


async def test_one_failure_does_not_stop_the_others_and_a_dead_lake_does(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        wants = [part(accessor, start, start + 1000) for start in range(0, 3_000_000, 200_000)]
        server.on("/nar/*", Fault(status=404), times=1)
        brought = await bring(wants[:3], Allowance())
        assert (brought.failed, brought.stopped_by) == (1, None)
        assert brought.requests >= 2
        server.on("/nar/*", Fault(status=404))
        brought = await bring(wants[3:], Allowance())
        assert brought.stopped_by == "failures"
        assert brought.requests == 0


async def test_a_nar_that_has_no_parts_passes_as_a_whole_if_the_allowance_is_enough(
    house: House, server: Server
) -> None:
    member = house.lake.add("solid", TREE, Recipe("xz"))
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        assert (await bring([whole(accessor)], Allowance(0))).stopped_by == "allowance"
        assert not server.asked("/nar/*")
        brought = await bring([part(accessor, 0, 1000), part(accessor, 2_000_000, 2_001_000)], Allowance())
        assert (brought.requests, brought.bytes) == (1, len(member.nar))
        assert accessor.verified
        assert (await bring([whole(accessor)], Allowance(0))).requests == 0


async def test_a_cancelled_caller_leaves_what_is_under_way_and_begins_nothing_more(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.settle()
        server.on("/nar/*", Fault(stall=(stall := Stall(after=1000))), times=1)
        async with trio.open_nursery() as caller:
            caller.start_soon(bring, [part(accessor, 1_000_000, 3_000_000)], Allowance())
            await stall.reached.wait()
            caller.cancel_scope.cancel()
        stall.released.set()
        assert await accessor.read(NarOffset(1_000_000), 1000) == member.nar[1_000_000:1_001_000]
        assert len(server.asked("/nar/*")) < 10  # of 31 that all would take
        await all_kept(store)
        assert store.statistics().counters.ahead_fetched_bytes > 0


async def test_a_reader_waits_for_the_request_that_brings_what_he_wants_and_asks_for_nothing(
    house: House, server: Server, member: Member, nursery: trio.Nursery
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.settle()
        server.on("/nar/*", Fault(stall=(stall := Stall())), times=1)
        nursery.start_soon(bring, [part(accessor, 1_000_000, 1_001_000)], Allowance())
        await stall.reached.wait()
        nursery.start_soon(let_go, stall)
        assert await accessor.read(NarOffset(1_000_000), 1000) == member.nar[1_000_000:1_001_000]
        assert len(server.asked("/nar/*")) == 1


async def test_without_a_cache_nothing_is_fetched_ahead(house: House, server: Server, member: Member) -> None:
    async with house.open(server.url, index_keys=KEYS, cached=False) as store:
        accessor = await store.find(member.path)
        brought = await bring([whole(accessor)], Allowance())
        assert brought.stopped_by == "cache"
        assert not server.asked("/nar/*")


async def test_planning_looks_at_no_more_than_it_plans(house: House, server: Server, member: Member) -> None:
    class Empty:
        """A cache that has nothing of a NAR that never ends."""

        looked_at = 0

        def each_missing(self, start: NarOffset, _length: int) -> Iterator[int]:
            for chunk in count(start):
                self.looked_at += 1
                yield chunk

    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.settle()
        assert accessor._contents is not None
        empty = Empty()
        whole_of_it = NarSpan(NarOffset(0), NarOffset(1 << 40))
        assert accessor._contents._fetcher.plan_ahead(whole_of_it, empty, 200_000) is not None  # type: ignore[arg-type]
        assert empty.looked_at <= 4


async def test_a_disk_that_hangs_under_what_is_brought_keeps_no_reader_waiting(
    house: House, server: Server, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_cached: CachedNar, _chunks: Chunks) -> None:
        await trio.sleep_forever()

    other = add_sealed(house.lake, "other", {b"small": File(NOISE[:50_000])}, KEY)
    async with house.open(server.url, index_keys=KEYS) as store:
        brought, read = await store.find(member.path), await store.find(other.path)
        await read.settle()
        await bring([part(brought, 0, 1)], Allowance())
        monkeypatch.setattr(CachedNar, "write_all", hang)
        monkeypatch.setattr(keeping, "_ROOM_S", 60.0)
        monkeypatch.setattr(keeping, "_KEEPING_S", 4.0)
        await bring([whole(brought)], Allowance())
        assert store.means.governor.held_bytes > 2_000_000
        with trio.fail_after(3):
            assert await contents(read, b"small") == NOISE[:50_000]


async def test_a_nar_that_a_full_cache_did_not_keep_is_brought_when_it_does(
    house: House, server: Server, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_cached: CachedNar, _chunks: Chunks) -> None:
        raise CacheUnusable("no room, for a moment")

    monkeypatch.setattr(keeping, "_REST_S", 60.0)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        with monkeypatch.context() as full:
            full.setattr(CachedNar, "write_all", refuse)
            await bring([part(accessor, 0, 1)], Allowance())
            await all_kept(store)
        assert (await bring([whole(accessor)], Allowance())).chunks == 0
        monkeypatch.setattr(keeping, "_REST_S", 0.0)
        await bring([whole(accessor)], Allowance())
        await all_kept(store)
        assert await accessor.missing_bytes() == 0


async def test_of_what_nobody_reads_only_so_much_is_remembered(house: House, server: Server) -> None:
    tree: Tree = {b"big": File(NOISE[:1_200_000])}
    member = add_sealed(house.lake, "fine", tree, KEY, frame_bytes=256)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await bring([whole(accessor)], Allowance())
        assert accessor._contents is not None
        fetcher = accessor._contents._fetcher
        assert 0 < len(fetcher.unread) <= 4096 < fetcher._index.grid.count
        assert await contents(accessor, b"big") == NOISE[:1_200_000]
        assert len(fetcher.unread) < 10
