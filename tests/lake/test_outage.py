# ruff: noqa: ARG001 - pytest-trio finds its clock among the arguments of a test
"""A lake that is down is noticed once, answered for at once, and noticed again when it comes back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Corrupt, NotFound, Unavailable
from narfs.formats.cache_info import CacheInfo
from narfs.formats.narinfo import NarInfo
from narfs.formats.store_path import StorePath
from narfs.lake.binary_cache import BinaryCache
from narfs.lake.outage import INTEREST_S, Outage
from narfs.lake.store_url import StoreUrl
from narfs.lake.upstreams import Upstreams, open_lakes
from narfs.offsets import BlobOffset
from tests.lake.fake_server import FakeServer, Wire, hang_up, stall, status, transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

NARINFO = NarInfo(StorePath("0123456789abcdfghijklmnpqrsvwxyz-hello"), "nar/x.nar.xz", "xz", bytes(32), 100)
HASH = NARINFO.path.hash_part


@pytest.fixture
def server(nursery: trio.Nursery) -> FakeServer:
    objects = {
        "nix-cache-info": CacheInfo().to_bytes(),
        f"{HASH}.narinfo": NARINFO.to_bytes(),
        NARINFO.url: b"compressed",
    }
    return FakeServer(nursery, objects)


@pytest.fixture
def lake(server: FakeServer, nursery: trio.Nursery) -> BinaryCache:
    return BinaryCache(StoreUrl.parse("http://lake.test"), transport(server), nursery=nursery, patience_s=30)


async def went_down(lake: BinaryCache, clock: MockClock) -> float:
    """Ask until it is noticed; give the seconds that this took."""
    begun = clock.current_time()
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises((Unavailable, Corrupt)):
                await lake.narinfo(HASH)

        nursery.start_soon(ask)
        while lake.outage.trouble is None:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    return clock.current_time() - begun


async def took(clock: MockClock, ask: Callable[[], object]) -> float:
    begun = clock.current_time()
    with pytest.raises(Unavailable, match="is down"):
        await ask()  # type: ignore[misc]  # it is a coroutine
    return clock.current_time() - begun


async def portal(_request: object, wire: Wire) -> bool:
    """Answer as the login page of a network does."""
    await wire.answer(200, b"<html>Welcome to the train!</html>")
    return True


REDIRECTS = status(302, {"Location": "http://login.test/"})


@pytest.mark.parametrize("fault", [stall, hang_up, status(503), portal, REDIRECTS])
async def test_once_a_lake_is_known_to_be_down_every_lookup_is_answered_at_once(
    lake: BinaryCache, server: FakeServer, autojump_clock: MockClock, fault: object
) -> None:
    await lake.info()
    server.always = fault  # type: ignore[assignment]
    assert await went_down(lake, autojump_clock) < 5
    assert await took(autojump_clock, lambda: lake.narinfo("1" * 32)) == 0
    assert await took(autojump_clock, lambda: lake.index_beginning("x.index", 100)) == 0
    asked = len(server.asked)
    await trio.sleep(30)
    assert set(server.asked[asked:]) == {"nix-cache-info"}, "while it is down it is asked for nothing else"
    server.always = None
    await trio.sleep(3)
    assert lake.outage.trouble is None
    assert await lake.narinfo(HASH) == NARINFO


async def test_a_lake_that_is_down_when_narfs_starts_is_noticed_too(
    lake: BinaryCache, server: FakeServer, autojump_clock: MockClock
) -> None:
    server.always = hang_up
    await went_down(lake, autojump_clock)
    server.always = None
    await trio.sleep(3)
    assert await lake.narinfo(HASH) == NARINFO


async def test_who_reads_is_as_patient_as_with_a_stalled_stream(
    lake: BinaryCache, server: FakeServer, autojump_clock: MockClock
) -> None:
    await lake.info()
    server.always = stall
    await went_down(lake, autojump_clock)
    read: list[bytes] = []

    async def reader() -> None:
        read.append(await lake.read_blob(NARINFO, BlobOffset(0), 10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.sleep(20)
        server.always = None
    assert read == [b"compressed"]
    server.always = stall
    await went_down(lake, autojump_clock)
    await trio.sleep(31)
    assert await took(autojump_clock, lambda: lake.read_blob(NARINFO, BlobOffset(0), 10)) == 0


async def test_long_work_waits_rather_than_fail(autojump_clock: MockClock) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with open_lakes([f"http://127.0.0.1:{port}"], patient=True) as upstreams:
        for attempts in (5, 10):
            with pytest.raises(Unavailable, match="failed"):
                await upstreams.narinfo(HASH, lambda _lake, _narinfo: True)
            await trio.sleep(5)  # what failed is remembered for as long as it took
            assert upstreams.lakes[0].statistics().requests_total == attempts


async def test_one_broken_object_is_no_outage(
    lake: BinaryCache, server: FakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    del server.objects[NARINFO.url]
    with pytest.raises(Unavailable, match="but not its NAR"):
        await lake.read_blob(NARINFO, BlobOffset(0), 10)
    server.faults = [None, *[status(500)] * 5]
    with pytest.raises(Unavailable, match="answered 500"):
        await lake.narinfo(HASH)
    await trio.sleep(3)
    assert lake.outage.trouble is None
    with pytest.raises(NotFound):
        await lake.narinfo("1" * 32)
    assert caplog.records == []


async def test_it_is_said_once_that_a_lake_is_down_and_once_that_it_answers(
    server: FakeServer, lake: BinaryCache, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    upstreams = Upstreams([lake])
    await upstreams.introduce()
    server.always = status(503)
    with caplog.at_level(logging.INFO, "narfs"):
        for number in range(5):
            with pytest.raises(Unavailable):
                await upstreams.narinfo(f"{number}" * 32, lambda _lake, _narinfo: True)
            await trio.sleep(1)
        assert upstreams.statistics().resting == ("http://lake.test",)
        server.always = None
        await trio.sleep(2)
    assert upstreams.statistics().resting == ()
    down, again = (record.getMessage() for record in caplog.records)
    assert down.startswith(f"http://lake.test: is down: http://lake.test/{'0' * 32}.narinfo: answered 503; ")
    assert again == "http://lake.test: answers again"


async def test_nobody_asks_a_lake_that_nobody_wants_anything_of(
    lake: BinaryCache, server: FakeServer, autojump_clock: MockClock
) -> None:
    await lake.info()
    server.always = stall
    await went_down(lake, autojump_clock)
    await trio.sleep(INTEREST_S + 3)
    asked = len(server.asked)
    await trio.sleep(1000)
    assert len(server.asked) == asked
    server.always = None
    assert await lake.narinfo(HASH) == NARINFO


@pytest.mark.parametrize("trouble", [MemoryError(), RuntimeError("can't start new thread")])
async def test_what_this_process_lacks_is_no_outage_and_ends_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock, trouble: Exception
) -> None:
    probed = 0

    async def probe() -> None:
        nonlocal probed
        probed += 1
        raise trouble

    outage = Outage("a lake", probe, lambda: 0, patience_s=30, nursery=nursery)
    with outage.asking():
        await trio.sleep(10)
    assert probed > 1
    assert outage.trouble is None


async def test_a_slow_answer_is_no_silence(lake: BinaryCache, server: FakeServer, autojump_clock: MockClock) -> None:
    await lake.info()

    async def drips(request: object, wire: object) -> bool:
        await wire.head(200, {"Content-Length": "10"})  # type: ignore[attr-defined]
        for _ in range(10):
            await trio.sleep(1)
            await wire.send(b"x")  # type: ignore[attr-defined]
        return True

    server.faults = [drips]
    assert await lake.read_blob(NARINFO, BlobOffset(0), 10) == b"x" * 10
    assert server.asked.count("nix-cache-info") == 1
