# ruff: noqa: ARG001 - pytest-trio finds its clock among the arguments of a test
from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Corrupt, NotFound, Unavailable, Untrusted, UsageError
from narfs.formats.cache_info import CacheInfo
from narfs.formats.narinfo import NarInfo
from narfs.formats.store_path import StorePath
from narfs.lake.binary_cache import BinaryCache
from narfs.lake.store_url import StoreUrl
from narfs.lake.upstreams import Upstreams, open_lakes
from tests.lake.fake_server import FakeServer, stall, status, transport

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

PATH = StorePath("0123456789abcdfghijklmnpqrsvwxyz-hello")
HASH = PATH.hash_part
NARINFO = NarInfo(PATH, "nar/x.nar.xz", "xz", bytes(32), 100)


class World:
    """Lakes by name, each with its own server, in the order in which they are added."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.servers: dict[str, FakeServer] = {}
        self.lakes: list[BinaryCache] = []

    def add(self, name: str, *, priority: int = 50, has: bool = False, parameters: str = "") -> FakeServer:
        server = FakeServer(self._nursery, {"nix-cache-info": CacheInfo(priority=priority).to_bytes()})
        if has:
            server.objects[f"{HASH}.narinfo"] = NARINFO.to_bytes()
        url = f"http://{name}.test"
        self.lakes.append(
            BinaryCache(StoreUrl.parse(url + parameters), transport(server, url=url), nursery=self._nursery)
        )
        self.servers[name] = server
        return server

    def upstreams(self) -> Upstreams:
        return Upstreams(self.lakes, negative_ttl_s=60.0)

    def asked(self) -> dict[str, int]:
        return {name: server.asked.count(f"{HASH}.narinfo") for name, server in self.servers.items()}


@pytest.fixture
def world(nursery: trio.Nursery) -> World:
    return World(nursery)


def any_lake(_lake: BinaryCache, _narinfo: NarInfo) -> bool:
    return True


async def test_the_lower_priority_is_asked_first_and_then_the_order_counts(
    world: World, autojump_clock: MockClock
) -> None:
    world.add("c", priority=50, has=True)
    world.add("a", priority=40)
    world.add("b", priority=50, has=True)
    lake, narinfo = await world.upstreams().narinfo(HASH, any_lake)
    assert (str(lake.url), narinfo) == ("http://c.test", NARINFO)
    assert world.asked() == {"a": 1, "c": 1, "b": 0}


async def test_a_priority_in_the_url_beats_the_one_of_the_lake(world: World, autojump_clock: MockClock) -> None:
    world.add("a", priority=10, has=True)
    world.add("b", priority=99, has=True, parameters="?priority=5")
    lake, _ = await world.upstreams().narinfo(HASH, any_lake)
    assert str(lake.url) == "http://b.test"


async def test_the_first_that_is_accepted_wins(world: World, autojump_clock: MockClock) -> None:
    world.add("a", has=True)
    world.add("b", has=True)
    upstreams = world.upstreams()
    lake, _ = await upstreams.narinfo(HASH, lambda lake, _narinfo: lake.url.netloc == "b.test")
    assert str(lake.url) == "http://b.test"
    with pytest.raises(Untrusted, match=r"a\.test has it, but no trusted key signed it; http://b\.test has it"):
        await upstreams.narinfo(HASH, lambda _lake, _narinfo: False)


async def test_absent_everywhere_is_not_found_and_remembered_for_its_time(
    world: World, autojump_clock: MockClock
) -> None:
    server = world.add("a")
    world.add("b")
    upstreams = world.upstreams()
    for _ in range(3):
        with pytest.raises(NotFound, match=r"none of http://a\.test, http://b\.test"):
            await upstreams.narinfo(HASH, any_lake)
    assert world.asked() == {"a": 1, "b": 1}
    assert 59 < upstreams.absent_for(HASH) <= 60.001
    assert upstreams.statistics().remembered_absences_total == 2
    server.objects[f"{HASH}.narinfo"] = NARINFO.to_bytes()
    await trio.sleep(61)
    assert upstreams.absent_for(HASH) == 0
    assert (await upstreams.narinfo(HASH, any_lake))[1] == NARINFO


async def test_a_lake_in_trouble_does_not_hide_another_one(world: World, autojump_clock: MockClock) -> None:
    world.add("a").always = status(500)
    world.add("b", has=True)
    assert (await world.upstreams().narinfo(HASH, any_lake))[1] == NARINFO


async def test_a_lake_in_trouble_is_never_absence(world: World, autojump_clock: MockClock) -> None:
    troubled = world.add("a")
    world.add("b")
    upstreams = world.upstreams()
    await upstreams.introduce()
    troubled.always = status(500)
    with pytest.raises(Unavailable, match=r"a\.test.*500"):
        await upstreams.narinfo(HASH, any_lake)
    assert upstreams.absent_for(HASH) == 0
    troubled.always = None
    with pytest.raises(NotFound):
        await upstreams.narinfo(HASH, any_lake)


async def test_trouble_of_two_kinds_is_unavailable_of_one_kind_is_that(world: World, autojump_clock: MockClock) -> None:
    one, two = world.add("a"), world.add("b")
    upstreams = world.upstreams()
    await upstreams.introduce()
    one.objects[f"{HASH}.narinfo"] = two.objects[f"{HASH}.narinfo"] = b"junk"
    with pytest.raises(Corrupt, match=r"a\.test.*b\.test"):
        await upstreams.narinfo(HASH, any_lake)
    two.always = status(500)
    with pytest.raises(Unavailable, match=r"a\.test.*b\.test"):
        await upstreams.narinfo(HASH, any_lake)


async def test_an_untrusted_find_beside_a_lake_in_trouble_is_trouble(world: World, autojump_clock: MockClock) -> None:
    world.add("a", has=True)
    world.add("b").always = status(500)
    with pytest.raises(Unavailable):
        await world.upstreams().narinfo(HASH, lambda _lake, _narinfo: False)


async def test_a_narinfo_that_points_elsewhere_is_passed_over(world: World, autojump_clock: MockClock) -> None:
    stray = NarInfo(PATH, "http://evil.test/x.nar", "xz", bytes(32), 100)
    world.add("a").objects[f"{HASH}.narinfo"] = stray.to_bytes()
    upstreams = world.upstreams()
    with pytest.raises(Untrusted, match="outside of the lake"):
        await upstreams.narinfo(HASH, any_lake)
    world.add("b", has=True)
    assert str((await world.upstreams().narinfo(HASH, any_lake))[0].url) == "http://b.test"


async def test_a_silent_lake_is_left_alone_until_it_answers(world: World, autojump_clock: MockClock) -> None:
    silent = world.add("a")
    world.add("b", has=True)
    upstreams = world.upstreams()
    await upstreams.introduce()
    silent.always = stall
    begun = autojump_clock.current_time()
    await upstreams.narinfo(HASH, any_lake)
    took = autojump_clock.current_time() - begun
    assert 60 <= took < 61
    await upstreams.narinfo(HASH, any_lake)
    assert autojump_clock.current_time() - begun == pytest.approx(took, abs=0.1)
    assert upstreams.statistics().resting == ("http://a.test",)
    with pytest.raises(Unavailable, match="is down"):
        await upstreams.narinfo("1" * 32, any_lake)
    silent.always = None
    silent.objects[f"{HASH}.narinfo"] = NARINFO.to_bytes()
    await trio.sleep(3)
    assert str((await upstreams.narinfo(HASH, any_lake))[0].url) == "http://a.test"


async def test_a_lake_that_does_not_introduce_itself_delays_a_lookup_by_2_s(
    world: World, autojump_clock: MockClock
) -> None:
    world.add("a", has=True)
    world.add("b").always = stall
    upstreams = world.upstreams()
    begun = autojump_clock.current_time()
    await upstreams.narinfo(HASH, any_lake)
    assert autojump_clock.current_time() - begun == pytest.approx(2, abs=0.1)
    await upstreams.narinfo(HASH, any_lake)
    assert autojump_clock.current_time() - begun == pytest.approx(2, abs=0.1)


async def test_a_dead_optional_lake_counts_as_absent_and_rests(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    dead = world.add("a", parameters="?optional=1", priority=10)
    dead.always = status(503)
    world.add("b")
    upstreams = world.upstreams()
    with caplog.at_level(logging.INFO, "narfs.lake.upstreams"):
        for number in range(5):
            with pytest.raises(NotFound):
                await upstreams.narinfo(f"{number}" * 32, any_lake)
        assert len(dead.requests) <= 15
        assert 0 < upstreams.absent_for("4" * 32) <= 60.001
        dead.always = None
        dead.objects[f"{HASH}.narinfo"] = NARINFO.to_bytes()
        await trio.sleep(61)
        assert str((await upstreams.narinfo(HASH, any_lake))[0].url) == "http://a.test"
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name.endswith("upstreams")]
    assert [(level, "a.test" in message) for level, message in said] == [("WARNING", True), ("INFO", True)]
    assert autojump_clock.current_time() > 61


async def test_the_rest_of_an_optional_lake_ends_when_it_answers(world: World, autojump_clock: MockClock) -> None:
    dead = world.add("a", parameters="?optional=1", priority=10)
    dead.always = status(503)
    dead.objects[f"{HASH}.narinfo"] = NARINFO.to_bytes()
    world.add("b")
    upstreams = world.upstreams()
    with pytest.raises(NotFound):
        await upstreams.narinfo("1" * 32, any_lake)
    await trio.sleep(5)
    dead.always = None
    await trio.sleep(5)
    assert str((await upstreams.narinfo(HASH, any_lake))[0].url) == "http://a.test"


async def test_an_absence_is_not_believed_longer_than_the_rest_of_an_optional_lake(
    world: World, autojump_clock: MockClock
) -> None:
    world.add("a", parameters="?optional=1").always = status(503)
    upstreams = Upstreams(world.lakes, negative_ttl_s=3600.0, optional_rest_s=20.0)
    with pytest.raises(NotFound):
        await upstreams.narinfo(HASH, any_lake)
    assert upstreams.absent_for(HASH) == pytest.approx(20, abs=0.1)


async def test_another_store_directory_is_refused(world: World, autojump_clock: MockClock) -> None:
    world.add("a", has=True)
    world.add("b").objects["nix-cache-info"] = b"StoreDir: /gnu/store\n"
    with pytest.raises(UsageError, match="is for /gnu/store"):
        await world.upstreams().introduce()
    with pytest.raises(UsageError, match="is for /gnu/store"):
        await world.upstreams().narinfo(HASH, any_lake)


async def test_lakes_are_opened_by_their_urls(tmp_path: Path) -> None:
    (tmp_path / "nix-cache-info").write_bytes(CacheInfo().to_bytes())
    (tmp_path / f"{HASH}.narinfo").write_bytes(NARINFO.to_bytes())
    async with open_lakes([f"{tmp_path}?trusted=1", "http://127.0.0.1:1?optional=1&priority=99"]) as upstreams:
        lake, narinfo = await upstreams.narinfo(HASH, lambda lake, _narinfo: lake.url.trusted)
        assert (lake.url.is_file, narinfo) == (True, NARINFO)
        assert dict(upstreams.statistics().lakes)[str(lake.url)].requests_total == 2
    with pytest.raises(UsageError, match="'gs' is no kind of store"):
        async with open_lakes(["gs://bucket"]):
            pass
