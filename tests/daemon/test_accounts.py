"""Who pays for what is fetched, and what comes of it when he may fetch no more."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.daemon.session import open_household, open_session_in
from narfs.daemon.sizes import Size
from narfs.errors import OverQuota
from narfs.formats.signature import PublicKeys
from narfs.mount.waits import Waits
from narfs.offsets import NarOffset
from tests.engine.conftest import read_tree
from tests.support.faults import Fault, Stall
from tests.support.lakes import Recipe
from tests.support.sealing import add_sealed
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from tests.daemon.conftest import Place

KB = 1000
TREE: Tree = {b"file": File(bytes(200 * KB))}
OTHER: Tree = {b"other": File(bytes(300 * KB))}
DIRECT = Recipe("none")


async def test_what_is_fetched_is_paid_by_who_asked_first_and_what_is_cached_by_nobody(place: Place) -> None:
    member = place.lake.add("tree", TREE, DIRECT)
    async with place.session(place.common) as session:
        one, other = (place.household.account(name, place.common) for name in ("one", "other"))
        accessor = await one.pays(session.store.find, member.path)
        assert one.requests == 2  # nix-cache-info and the narinfo
        before = one.received_bytes
        await one.pays(accessor.settle)
        assert one.received_bytes - before == len(member.nar)
        assert one.requests == 3
        assert await other.pays(read_tree, accessor) == TREE
        assert (other.requests, other.received_bytes) == (0, 0)


@pytest.mark.parametrize("recipe", [DIRECT, Recipe("zstd"), Recipe("zstd", frame_bytes=64 * KB)])
async def test_who_is_over_quota_reads_what_is_cached_and_holds_up_nobody(place: Place, recipe: Recipe) -> None:
    first, second = place.lake.add("first", TREE, recipe), place.lake.add("second", OTHER, recipe)
    async with place.session(place.common) as session:
        poor = place.household.account("view poor", replace(place.common, fetch_bytes=Size(bytes=1)))
        rich = place.household.account("view rich", place.common)
        kept = await rich.pays(session.store.find, first.path)
        await rich.pays(kept.settle)
        assert await Waits(poor).within(9, read_tree, kept) == TREE
        accessor = await rich.pays(session.store.find, second.path)
        poor.received_bytes = 1
        for ask in (accessor.peek, accessor.settle):
            with pytest.raises(OverQuota, match="view poor: has fetched the 1 bytes it may"):
                await Waits(poor).within(9, ask)
        with pytest.raises(OverQuota):
            await Waits(poor).within(9, session.store.find, place.private.add("none", TREE).path)
        assert await Waits(rich).within(9, read_tree, accessor) == OTHER
        assert await Waits(poor).within(9, read_tree, accessor) == OTHER


async def test_who_waited_for_what_another_could_not_pay_pays_himself(place: Place) -> None:
    member = place.private.add("tree", TREE, DIRECT)
    stall = Stall(after=100 * KB)
    place.server.on("/nar/*", Fault(stall=stall), times=1)
    config = place.config(place.server.url, netrc=place.netrc("me:right"))
    async with place.session(config) as session:
        poor = place.household.account("poor", replace(place.common, fetch_bytes=Size(bytes=50 * KB)))
        rich = place.household.account("rich", place.common)
        accessor = await rich.pays(session.store.find, member.path)
        before = rich.received_bytes

        async def fail() -> None:
            with pytest.raises(OverQuota):
                await poor.pays(accessor.settle)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await stall.reached.wait()
            nursery.start_soon(rich.pays, accessor.settle)
            await trio.testing.wait_all_tasks_blocked(0.05)
            stall.released.set()
        assert accessor.verified
        assert poor.received_bytes >= 50 * KB
        assert rich.received_bytes - before == len(member.nar)


async def test_an_index_that_one_could_not_pay_is_there_for_the_next(place: Place) -> None:
    member = add_sealed(place.lake, "sealed", TREE, place.lake.secret_key)
    common = replace(place.common, trusted_index_keys=PublicKeys((place.lake.secret_key.public,)))
    async with open_session_in(place.household, common) as session:
        poor = place.household.account("poor", replace(common, fetch_bytes=Size(bytes=1)))
        rich = place.household.account("rich", common)
        accessor = await rich.pays(session.store.find, member.path)
        poor.received_bytes = 1
        with pytest.raises(OverQuota):
            await poor.pays(accessor.children, 0)
        assert await rich.pays(read_tree, accessor) == TREE
        counters = session.store.statistics().counters
        assert (counters.indexes_taken, counters.indexes_refused, counters.passes_begun) == (1, 0, 0)


async def test_what_is_fetched_ahead_of_reads_that_found_everything_is_paid_too(place: Place) -> None:
    key = place.lake.secret_key
    random = Random(1)  # noqa: S311 - any will do
    member = add_sealed(place.lake, "tree", {b"%d" % number: File(random.randbytes(6 << 20)) for number in (1, 2)}, key)
    async with place.session(place.config(*place.common.store, index_keys=str(key.public))) as session:
        account = place.household.account("view", place.common)
        accessor = await account.pays(session.store.find, member.path)
        await account.pays(accessor.settle)
        assert accessor.listing is not None
        for file in (b"1", b"2"):
            node = accessor.listing.find(file)
            assert node is not None
            start = accessor.listing.node(node).nar_offset
            for place_ in range(start, start + (6 << 20), 128 << 10):
                while accessor.read_nowait(NarOffset(place_), 128 << 10) is None:  # handlers ask that for nobody
                    await account.pays(accessor.read, NarOffset(place_), 128 << 10)
                await trio.sleep(0.001)
        received = sum(each.received_bytes_total for _, each in session.lakes.statistics().lakes)
        assert account.received_bytes == received


async def test_without_a_cache_a_stream_ends_with_who_began_it(place: Place) -> None:
    member = place.lake.add("solid", TREE)
    async with open_session_in(replace(place.household, cache=None), place.common) as session:
        poor = place.household.account("poor", replace(place.common, fetch_bytes=Size(bytes=1)))
        rich = place.household.account("rich", place.common)
        accessor = await rich.pays(session.store.find, member.path)
        await rich.pays(accessor.settle)
        poor.received_bytes = 1
        with pytest.raises(OverQuota):
            await poor.pays(read_tree, accessor)
        assert await rich.pays(read_tree, accessor) == TREE


@pytest.mark.parametrize("own", [None, Size(bytes=100 * KB)])
async def test_a_view_fetches_no_faster_than_its_process_and_it_may(place: Place, own: Size | None) -> None:
    common = replace(
        place.common, cache_dir=place.directory / "other", bandwidth=Size(bytes=(1000 if own else 100) * KB)
    )
    member = place.lake.add("tree", {b"file": File(bytes(40 * KB))}, DIRECT)
    async with open_household(common, if_held="refuse") as household, place.session(place.common) as session:
        accessor = await session.store.find(member.path)
        begun = trio.current_time()
        await household.account("slow", common, bandwidth=own).pays(accessor.settle)
        assert trio.current_time() - begun > 0.3  # 40 kB at 100 kB/s, with 50 ms of credit


async def test_what_came_of_each_path_is_noted_only_where_it_is_told(place: Place) -> None:
    member = place.lake.add("tree", TREE, DIRECT)
    view = place.household.account("view", place.common)
    prefetch = place.household.account("prefetch", place.common, by_path=False)
    async with place.session(place.common) as session:
        accessor = await prefetch.pays(session.store.find, member.path)
        await prefetch.pays(accessor.settle)
        assert prefetch.received_bytes > len(member.nar)
        assert prefetch.fetched == {}
        other = await view.pays(session.store.find, place.lake.add("other", OTHER, DIRECT).path)
        await view.pays(other.settle)
        assert len(view.fetched) == 1
