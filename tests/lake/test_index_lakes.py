# ruff: noqa: ARG001 - pytest-trio finds its clock among the arguments of a test
"""Index stores in trouble: what they cost, what is told of them, and when they are asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import NotFound, TooSlow, Unavailable
from narfs.formats.cache_info import CacheInfo
from narfs.formats.store_path import StorePath
from narfs.lake.binary_cache import BinaryCache
from narfs.lake.index_stores import PATIENCE_S, IndexStores
from narfs.lake.store_url import StoreUrl
from tests.lake.fake_server import FakeServer, stall, status, transport

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.lake.fake_server import Request, Wire

PATH = StorePath("0123456789abcdfghijklmnpqrsvwxyz-hello")
OTHER = StorePath("1123456789abcdfghijklmnpqrsvwxyz-hello")
NAME = f"{PATH.hash_part}.narfs"


@pytest.fixture
def lake(server: FakeServer) -> BinaryCache:
    server.objects |= {"nix-cache-info": CacheInfo().to_bytes(), NAME: b"an index"}
    return BinaryCache(StoreUrl.parse("http://indexes.test"), transport(server, url="http://indexes.test"))


@pytest.fixture
def stores(lake: BinaryCache) -> IndexStores:
    return IndexStores([lake])


async def waited(stores: IndexStores, path: StorePath = PATH) -> float:
    """Ask a store in trouble, and give how long that took."""
    begun = trio.current_time()
    with pytest.raises(Unavailable):
        await stores.beginning(stores.lakes[0], path, 100)
    return trio.current_time() - begun


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_an_index_is_given_as_it_is_and_only_as_much_as_is_wanted(stores: IndexStores, lake: BinaryCache) -> None:
    assert await stores.beginning(lake, PATH, 100) == b"an index"
    assert await stores.beginning(lake, PATH, 2) == b"an"
    assert dict(stores.statistics().lakes)["http://indexes.test"].requests_total == 3


async def test_what_is_absent_is_asked_for_again_after_the_negative_ttl(
    stores: IndexStores, lake: BinaryCache, server: FakeServer, autojump_clock: MockClock
) -> None:
    for _ in range(3):
        with pytest.raises(NotFound):
            await stores.beginning(lake, OTHER, 100)
    assert server.asked.count(f"{OTHER.hash_part}.narfs") == 1
    assert stores.statistics().remembered_absences_total == 2
    server.objects[f"{OTHER.hash_part}.narfs"] = b"new"
    await trio.sleep(61)
    assert await stores.beginning(lake, OTHER, 100) == b"new"


@pytest.mark.parametrize("fault", [stall, status(503), status(404)], ids=["silent", "in trouble", "no lake"])
async def test_a_store_that_is_down_costs_one_short_wait_for_all_and_is_told_of_once(
    stores: IndexStores, server: FakeServer, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock, fault: object
) -> None:
    server.always = fault  # type: ignore[assignment]  # one of fake_server's
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(waited, stores)
    assert await waited(stores) == 0
    assert stores.statistics().resting == ("http://indexes.test",)
    await trio.sleep(61)
    assert await waited(stores) <= PATIENCE_S
    await trio.sleep(61)
    assert await waited(stores) == 0  # the second rest is twice as long
    assert len(warnings(caplog)) == 1


async def test_nobody_waits_longer_than_the_patience(
    stores: IndexStores, server: FakeServer, autojump_clock: MockClock
) -> None:
    server.always = stall
    assert await waited(stores) == PATIENCE_S


async def test_a_store_that_answers_again_before_its_rest_is_over_is_used_again(
    server: FakeServer, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    url = "http://indexes.test"
    server.objects |= {"nix-cache-info": CacheInfo().to_bytes(), NAME: b"an index"}
    lake = BinaryCache(StoreUrl.parse(url), transport(server, url=url), nursery=nursery)
    stores = IndexStores([lake])
    server.always = stall
    await waited(stores)
    assert stores.statistics().resting == (url,)
    server.always = None
    await trio.sleep(5)
    assert stores.statistics().resting == ()
    assert await stores.beginning(lake, PATH, 100) == b"an index"


async def test_a_store_that_answers_again_is_used_again(
    stores: IndexStores, lake: BinaryCache, server: FakeServer, autojump_clock: MockClock
) -> None:
    server.always = stall
    await waited(stores)
    server.always = None
    await trio.sleep(61)
    assert await stores.beginning(lake, PATH, 100) == b"an index"
    assert stores.statistics().resting == ()


async def test_a_store_from_which_bytes_come_is_slow_and_does_not_rest(
    stores: IndexStores,
    lake: BinaryCache,
    server: FakeServer,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    async def drip(_request: Request, wire: Wire) -> bool:
        await wire.head(200, {"Content-Length": "100"})
        for _ in range(100):
            await wire.send(b"x")
            await trio.sleep(1)
        return True

    await lake.info()
    server.always = drip
    with pytest.raises(TooSlow):
        await stores.beginning(lake, PATH, 100)
    server.always = None
    assert await stores.beginning(lake, PATH, 100) == b"an index"
    [warning] = warnings(caplog)
    assert PATH.base_name in warning


async def test_many_who_ask_at_once_wait_for_their_turn_and_not_for_a_silent_store(
    stores: IndexStores, lake: BinaryCache, server: FakeServer, autojump_clock: MockClock
) -> None:
    async def far_away(_request: Request, _wire: Wire) -> bool:
        await trio.sleep(1)
        return False

    server.always = far_away
    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(stores.beginning, lake, PATH, 100)
    assert trio.current_time() > 2 * PATIENCE_S
    assert not stores.statistics().resting


async def test_a_store_for_another_directory_is_not_used(stores: IndexStores, server: FakeServer) -> None:
    server.objects["nix-cache-info"] = b"StoreDir: /gnu/store\n"
    await waited(stores)
    assert stores.statistics().resting
