from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Corrupt, NotFound, TooSlow, Unavailable, Untrusted, UsageError
from narfs.formats.cache_info import CacheInfo
from narfs.formats.narinfo import NarInfo
from narfs.formats.store_path import StorePath
from narfs.lake.binary_cache import BinaryCache
from narfs.lake.store_url import StoreUrl
from narfs.offsets import BlobOffset
from tests.lake.fake_server import FakeServer, chunks, collect, stall, status, transport

if TYPE_CHECKING:
    from trio.testing import MockClock

PATH = StorePath("0123456789abcdfghijklmnpqrsvwxyz-hello")
NARINFO = NarInfo(PATH, "nar/x.nar.xz?hash=1", "xz", bytes(32), 100)
HASH = PATH.hash_part
INFO = CacheInfo(priority=41)


@pytest.fixture
def lake(server: FakeServer) -> BinaryCache:
    server.objects |= {
        "nix-cache-info": INFO.to_bytes(),
        f"{HASH}.narinfo": NARINFO.to_bytes(),
        f"{HASH}.ls": b'{"version":1}',
        NARINFO.url: b"a compressed NAR",
    }
    return BinaryCache(StoreUrl.parse("http://lake.test"), transport(server))


async def test_a_lake_tells_what_it_is_once_and_what_it_has(lake: BinaryCache, server: FakeServer) -> None:
    assert lake.priority == 50
    assert not lake.knows_priority
    assert await lake.narinfo(HASH) == NARINFO
    assert await lake.info() == INFO
    assert await lake.listing(HASH) == b'{"version":1}'
    assert (lake.priority, lake.knows_priority) == (41, True)
    assert server.asked.count("nix-cache-info") == 1
    async with lake.open_blob(NARINFO, BlobOffset(2)) as pieces:
        assert await collect(pieces) == b"compressed NAR"
    assert await lake.read_blob(NARINFO, BlobOffset(2), 10) == b"compressed"
    assert str(lake.url) == "http://lake.test"


async def test_a_priority_in_the_url_wins(server: FakeServer) -> None:
    lake = BinaryCache(StoreUrl.parse("http://lake.test?priority=7"), transport(server))
    assert (lake.priority, lake.knows_priority) == (7, True)


async def test_many_who_ask_for_the_info_at_once_share_one_answer(lake: BinaryCache, server: FakeServer) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(lake.info)
    assert server.asked == ["nix-cache-info"]


async def test_trouble_with_the_info_is_shared_for_as_long_as_it_took(
    lake: BinaryCache, server: FakeServer, autojump_clock: MockClock
) -> None:
    server.always = stall
    begun = autojump_clock.current_time()

    async def fails() -> None:
        with pytest.raises(TooSlow):
            await lake.narinfo(HASH)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(fails)
    assert autojump_clock.current_time() - begun < 61
    server.always = None
    with pytest.raises(TooSlow):
        await lake.info()
    await trio.sleep(61)
    assert await lake.narinfo(HASH) == NARINFO


async def test_a_store_directory_of_its_own_is_refused(lake: BinaryCache, server: FakeServer) -> None:
    server.objects["nix-cache-info"] = b"StoreDir: /gnu/store\n"
    with pytest.raises(UsageError, match="is for /gnu/store"):
        await lake.narinfo(HASH)


@pytest.mark.parametrize("info", [None, b"<html>Welcome</html>", b"x" * 100_000])
async def test_what_has_no_nix_cache_info_is_no_lake_and_nothing_is_absent_there(
    lake: BinaryCache, server: FakeServer, info: bytes | None
) -> None:
    if info is None:
        del server.objects["nix-cache-info"]
    else:
        server.objects["nix-cache-info"] = info
    with pytest.raises(Unavailable, match="cannot be used as a binary cache"):
        await lake.narinfo("1" * 32)


async def test_absent_is_absent_and_403_too_once_admitted(lake: BinaryCache, server: FakeServer) -> None:
    with pytest.raises(NotFound):
        await lake.narinfo("1" * 32)
    with pytest.raises(NotFound):
        await lake.listing("1" * 32)
    server.faults = [status(403)]
    with pytest.raises(NotFound):
        await lake.narinfo("2" * 32)


@pytest.mark.parametrize("data", [b"junk", b"", NARINFO.to_bytes().replace(b"/0123", b"/1123"), b"x: y\n" * 300_000])
async def test_a_narinfo_that_is_none_is_corrupt(lake: BinaryCache, server: FakeServer, data: bytes) -> None:
    server.objects[f"{HASH}.narinfo"] = data
    with pytest.raises(Corrupt, match=f"{HASH}.narinfo"):
        await lake.narinfo(HASH)


@pytest.mark.parametrize("url", ["http://evil.test/x.nar", "../x.nar", "nar/%2e%2e/%2e%2e/x.nar", "/x.nar"])
async def test_a_narinfo_that_points_out_of_the_lake_is_untrusted(
    lake: BinaryCache, server: FakeServer, url: str
) -> None:
    stray = NarInfo(PATH, url, "xz", bytes(32), 100)
    server.objects[f"{HASH}.narinfo"] = stray.to_bytes()
    with pytest.raises(Untrusted, match="points to"):
        await lake.narinfo(HASH)
    with pytest.raises(Untrusted):
        await lake.read_blob(stray, BlobOffset(0), 1)
    with pytest.raises(Untrusted):
        await lake.put_blob(url, chunks(), 0)
    async with AsyncExitStack() as stack:
        with pytest.raises(Untrusted):
            await stack.enter_async_context(lake.open_blob(stray))
    assert not any("x.nar" in name for name in server.asked)


async def test_an_absolute_url_inside_the_lake_is_fine(lake: BinaryCache, server: FakeServer) -> None:
    inside = NarInfo(PATH, "http://lake.test/nar/x.nar.xz?hash=1", "xz", bytes(32), 100)
    server.objects[f"{HASH}.narinfo"] = inside.to_bytes()
    assert await lake.read_blob(await lake.narinfo(HASH), BlobOffset(2), 10) == b"compressed"


async def test_a_blob_that_is_missing_is_trouble_and_not_absence(lake: BinaryCache, server: FakeServer) -> None:
    del server.objects[NARINFO.url]
    with pytest.raises(Unavailable, match=r"has the narinfo of .*-hello but not its NAR"):
        await lake.read_blob(NARINFO, BlobOffset(0), 1)
    async with AsyncExitStack() as stack:
        with pytest.raises(Unavailable, match="but not its NAR"):
            await stack.enter_async_context(lake.open_blob(NARINFO))


async def test_what_a_reader_of_a_blob_raises_is_left_alone(lake: BinaryCache) -> None:
    with pytest.raises(NotFound, match="mine"):
        async with lake.open_blob(NARINFO):
            raise NotFound("mine")


async def test_a_lake_is_filled(server: FakeServer) -> None:
    lake = BinaryCache(StoreUrl.parse("http://lake.test"), transport(server))
    assert not await lake.has_narinfo(HASH)
    await lake.put_info(INFO)
    await lake.put_blob(NARINFO.url, chunks(b"a compressed", b" NAR"), 16)
    await lake.put_parts(lake.parts(NARINFO, b'{"version":1}', None, None))
    await lake.put_narinfo(NARINFO)
    assert await lake.has_narinfo(HASH)
    assert await lake.has_blob(NARINFO.url)
    assert await lake.narinfo(HASH) == NARINFO
    assert await lake.read_blob(NARINFO, BlobOffset(0), 16) == b"a compressed NAR"
