from __future__ import annotations

import gzip
import zlib
from contextlib import aclosing
from typing import TYPE_CHECKING

import brotli  # type: ignore[import-untyped]  # ships no annotations
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from narfs.errors import Corrupt, NotFound, Unavailable
from narfs.lake.link import RECEIVE_BYTES
from narfs.lake.settings import LakeSettings
from narfs.offsets import BlobOffset
from tests.lake.fake_server import (
    FakeServer,
    Request,
    Wire,
    chunks,
    status,
    stream_all,
    transport,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BLOB = bytes(range(256)) * 20_000  # 5 MB


async def test_a_small_object_comes_whole_and_the_connection_is_used_again(server: FakeServer) -> None:
    server.objects["a.narinfo"] = b"hello"
    lake = transport(server)
    for _ in range(3):
        assert await lake.get("a.narinfo", max_bytes=100) == b"hello"
        with pytest.raises(NotFound, match=r"http://lake\.test/b\.narinfo"):
            await lake.get("b.narinfo", max_bytes=100)
    assert server.connections == 1
    assert lake.statistics().requests_total == 6
    assert lake.statistics().in_flight == 0


async def test_a_stream_gives_pieces_of_up_to_1_mib_the_first_at_once(server: FakeServer) -> None:
    server.objects["nar/x.nar"] = BLOB
    lake = transport(server)
    async with lake.stream("nar/x.nar") as pieces:
        sizes = [len(piece) async for piece in pieces]
    assert sum(sizes) == len(BLOB)
    assert sizes[0] <= RECEIVE_BYTES
    assert max(sizes) <= 1024 * 1024
    assert len(sizes) < 12
    assert await stream_all(lake, "nar/x.nar", 4_999_000) == BLOB[4_999_000:]
    assert server.connections == 1
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_stream_from_the_very_end_is_empty_and_one_behind_it_is_corrupt(server: FakeServer) -> None:
    server.objects["x"] = b"12345"
    lake = transport(server)
    assert await stream_all(lake, "x", 5) == b""
    with pytest.raises(Corrupt, match="has 5 bytes"):
        await stream_all(lake, "x", 6)
    server.ranges = False
    with pytest.raises(Corrupt, match="has 5 bytes"):
        await stream_all(lake, "x", 6)


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_range_is_exact_whether_the_server_knows_ranges_or_not(server: FakeServer, ranges: bool) -> None:
    server.objects["x"] = BLOB
    server.ranges = ranges
    lake = transport(server)
    assert await lake.read_range("x", BlobOffset(1_000_003), 300_000) == BLOB[1_000_003:1_300_003]
    assert await lake.read_range("x", BlobOffset(0), 0) == b""
    assert server.requests[0].headers["range"] == "bytes=1000003-1300002"
    assert lake.statistics().ranges_ignored_total == (0 if ranges else 1)
    with pytest.raises(Corrupt):
        await lake.read_range("x", BlobOffset(len(BLOB) - 5), 6)


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_beginning_ends_where_the_object_does(server: FakeServer, ranges: bool) -> None:
    server.objects |= {"x": BLOB, "small": b"small", "empty": b""}
    server.ranges = ranges
    lake = transport(server)
    assert await lake.read_beginning("x", 1_000_000) == BLOB[:1_000_000]
    assert await lake.read_beginning("small", 5) == b"small"
    assert await lake.read_beginning("small", 6) == b"small"
    assert await lake.read_beginning("empty", 6) == b""
    assert len(server.requests) == 4
    with pytest.raises(NotFound):
        await lake.read_beginning("none", 6)


async def test_an_absent_blob_is_known_on_entering(server: FakeServer) -> None:
    lake = transport(server)
    with pytest.raises(NotFound):
        await stream_all(lake, "nar/none.nar")
    assert await lake.exists("nar/none.nar") is False


@pytest.mark.parametrize("code", [400, 401, 402, 405, 501])
async def test_what_will_not_change_is_not_asked_again(server: FakeServer, code: int) -> None:
    server.always = status(code)
    with pytest.raises(Unavailable, match=str(code)):
        await transport(server).get("x", max_bytes=100)
    assert len(server.requests) == 1


async def test_retry_after_an_hour_is_given_up_at_once(server: FakeServer) -> None:
    server.always = status(429, {"Retry-After": "3600"})
    with pytest.raises(Unavailable, match="429"):
        await transport(server).get("x", max_bytes=100)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "content_range", ["", "bytes 0-9/100", "bytes 51-99/100", "bytes 50-200/100", "lines 50-99/100"]
)
async def test_a_range_that_lies_about_its_place_is_not_used(server: FakeServer, content_range: str) -> None:
    server.always = status(206, {"Content-Range": content_range}, b"x" * 50)
    with pytest.raises(Unavailable, match=r"answered|cannot place"):
        await transport(server).read_range("x", BlobOffset(50), 50)


async def test_a_chunked_body_of_unknown_length_ends_where_it_ends(server: FakeServer) -> None:
    async def chunked(_request: Request, wire: Wire) -> bool:
        await wire.head(200, {"Transfer-Encoding": "chunked"})
        await wire.send(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        return True

    server.always = chunked
    lake = transport(server)
    assert await stream_all(lake, "x") == b"hello world"
    assert await lake.get("x", max_bytes=100) == b"hello world"
    assert await lake.read_beginning("x", 8) == b"hello wo"
    assert await lake.read_beginning("x", 100) == b"hello world"


async def test_a_blob_with_a_content_encoding_nobody_asked_for_is_refused(server: FakeServer) -> None:
    server.always = status(200, {"Content-Encoding": "zstd"}, b"whatever")
    with pytest.raises(Unavailable, match="Content-Encoding 'zstd' although identity"):
        await stream_all(transport(server), "x")


@pytest.mark.parametrize(
    ("encoding", "encode"), [("br", brotli.compress), ("gzip", gzip.compress), ("identity", bytes)]
)
async def test_a_small_object_is_decoded(server: FakeServer, encoding: str, encode: type[bytes]) -> None:
    server.always = status(200, {"Content-Encoding": encoding}, encode(b'{"version":1}' * 9))
    assert await transport(server).get("x.ls", max_bytes=1000) == b'{"version":1}' * 9


async def test_a_bomb_is_corrupt_and_does_not_fill_the_memory(server: FakeServer) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(200)) + packer.flush()
    server.always = status(200, {"Content-Encoding": "gzip"}, bomb)
    with pytest.raises(Corrupt, match="longer than 1000000 bytes"):
        await transport(server).get("x.ls", max_bytes=1_000_000)


async def test_a_small_object_that_is_large_is_not_read_to_its_end(server: FakeServer) -> None:
    async def endless(_request: Request, wire: Wire) -> bool:
        await wire.head(200, {"Content-Length": str(10**12)})
        await wire.send(bytes(200_000))
        await wire.hold()
        return True

    server.always = endless
    with pytest.raises(Corrupt, match="longer than 100 bytes"):
        await transport(server).get("x", max_bytes=100)


async def test_redirects_are_followed_inside_the_origin(server: FakeServer) -> None:
    server.objects["real/x"] = BLOB
    server.always = None
    lake = transport(server)
    for location in ("/real/x", "http://lake.test/real/x", "http://LAKE.test:80/real/x", "real/x"):
        server.faults = [status(302, {"Location": location})]
        assert await lake.read_range("x", BlobOffset(5), 10) == BLOB[5:15]
    assert server.connections == 1


@pytest.mark.parametrize(
    "location", ["http://evil.test/x", "https://lake.test/x", "http://lake.test:81/x", "//evil.test/x", "http://["]
)
async def test_a_redirect_to_another_origin_is_not_followed(server: FakeServer, location: str) -> None:
    server.always = status(301, {"Location": location})
    with pytest.raises(Unavailable, match="another origin"):
        await transport(server).get("x", max_bytes=100)
    assert len(server.requests) == 1


async def test_redirects_in_a_circle_end(server: FakeServer) -> None:
    server.always = status(302, {"Location": "/x"})
    with pytest.raises(Unavailable, match="302"):
        await transport(server).get("x", max_bytes=100)
    assert len(server.requests) == 5


async def test_403_is_absent_only_after_nix_cache_info_was_readable(server: FakeServer) -> None:
    lake = transport(server)
    server.always = status(403, body=b"<Error><Code>AccessDenied</Code></Error>")
    with pytest.raises(Unavailable, match="check the credentials"):
        await lake.get("x.narinfo", max_bytes=100)
    server.objects["nix-cache-info"] = b"StoreDir: /nix/store\n"
    server.faults = [None]
    await lake.get("nix-cache-info", max_bytes=100)
    with pytest.raises(NotFound):
        await lake.get("x.narinfo", max_bytes=100)
    server.always = status(403, body=b"<Error><Code>ExpiredToken</Code></Error>")
    with pytest.raises(Unavailable, match="check the credentials"):
        await lake.get("x.narinfo", max_bytes=100)


async def test_percent_encoding_and_query_reach_the_server_as_they_are(server: FakeServer) -> None:
    lake = transport(server, url="http://lake.test/deep/er/")
    name = "nar/a%2Bb%20c+d.nar?hash=x%26y&z=1"
    server.objects[f"deep/er/{name}"] = b"found"
    assert await stream_all(lake, name) == b"found"


async def test_credentials_of_the_url_are_sent_at_once_and_stay_out_of_messages(server: FakeServer) -> None:
    lake = transport(server, url="http://me:s%40crit@lake.test")
    with pytest.raises(NotFound) as caught:
        await lake.get("x", max_bytes=100)
    assert server.requests[0].headers["authorization"] == "Basic bWU6c0Bjcml0"
    assert "crit" not in str(caught.value)


async def test_a_long_stream_does_not_starve_small_objects(server: FakeServer) -> None:
    server.objects = {"big": BLOB, "small": b"small"}
    lake = transport(server, LakeSettings(long_bodies=1, short_requests=1))
    async with lake.stream("big") as pieces:
        await anext(pieces)
        assert await lake.get("small", max_bytes=100) == b"small"
        assert await lake.read_range("big", BlobOffset(7), 3) == BLOB[7:10]
        assert lake.statistics().in_flight == 1
    assert lake.statistics().in_flight == 0


async def test_no_more_streams_are_open_than_allowed(server: FakeServer) -> None:
    server.objects = {"big": BLOB}
    lake = transport(server, LakeSettings(long_bodies=2))

    async def hold() -> None:
        async with lake.stream("big") as pieces:
            await anext(pieces)
            await trio.sleep_forever()

    async with trio.open_nursery() as holders:
        for _ in range(5):
            holders.start_soon(hold)
        await wait_all_tasks_blocked()
        assert len(server.requests) == 2
        holders.cancel_scope.cancel()
    assert await stream_all(lake, "big") == BLOB


async def test_leaving_a_stream_early_closes_its_connection_only(server: FakeServer) -> None:
    server.objects["x"] = BLOB
    lake = transport(server)
    async with lake.stream("x") as pieces:
        await anext(pieces)
    await wait_all_tasks_blocked()
    assert server.open_connections == 0
    assert await stream_all(lake, "x") == BLOB
    assert lake.statistics().in_flight == 0


@pytest.mark.parametrize(
    ("what", "where"),
    [(what, where) for what in ("get", "stream", "range", "put") for where in ("head", "body")] + [("exists", "head")],
)
async def test_cancelled_anywhere_nothing_stays_in_flight(server: FakeServer, what: str, where: str) -> None:
    async def partner(_request: Request, wire: Wire) -> bool:
        if where == "body":
            await wire.head(200, {"Content-Length": "1000"})
            await wire.send(b"x" * 10)
        await wire.hold()
        return True

    server.objects["x"] = BLOB
    server.faults = [partner]
    lake = transport(server)
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: lake.get("x", max_bytes=10_000_000),
        "stream": lambda: stream_all(lake, "x"),
        "range": lambda: lake.read_range("x", BlobOffset(0), 1000),
        "put": lambda: lake.put("y", chunks(b"1" * 600_000, b"2" * 600_000), 1_200_000),
        "exists": lambda: lake.exists("x"),
    }

    async def run() -> None:
        await ways[what]()

    async with trio.open_nursery() as doomed:
        doomed.start_soon(run)
        await wait_all_tasks_blocked()
        assert lake.statistics().in_flight == 1
        doomed.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert lake.statistics().in_flight == 0
    assert server.open_connections == 0
    assert await stream_all(lake, "x") == BLOB


async def test_an_upload_has_a_length_and_arrives(server: FakeServer) -> None:
    lake = transport(server)
    await lake.put("nar/x.nar", chunks(BLOB[:2_000_000], BLOB[2_000_000:]), len(BLOB))
    await lake.put("x.narinfo", chunks(b"Store", b"Path"), 9)
    assert server.objects == {"nar/x.nar": BLOB, "x.narinfo": b"StorePath"}
    assert [request.headers["content-length"] for request in server.requests] == [str(len(BLOB)), "9"]
    assert server.requests[1].headers["content-type"] == "text/x-nix-narinfo"
    assert "transfer-encoding" not in server.requests[0].headers
    assert lake.statistics().sent_bytes_total == len(BLOB) + 9


async def test_a_large_upload_that_fails_says_so(server: FakeServer) -> None:
    server.always = status(403)
    with pytest.raises(Unavailable, match="check the credentials"):
        await transport(server).put("nar/x.nar", chunks(BLOB), len(BLOB))


@pytest.mark.parametrize("size", [3, 5, 2_000_000])
async def test_an_upload_of_another_length_than_announced_is_corrupt(server: FakeServer, size: int) -> None:
    async with aclosing(chunks(b"12", b"34")) as upload:
        with pytest.raises(Corrupt, match="not as long as announced"):
            await transport(server).put("x", upload, size)
    assert server.objects == {}
