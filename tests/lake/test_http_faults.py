# ruff: noqa: ARG001 - pytest-trio finds its clock among the arguments of a test
from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import TooSlow, Unavailable
from narfs.offsets import BlobOffset
from tests.lake.fake_server import (
    FakeServer,
    Request,
    Wire,
    chunks,
    cut_after,
    hang_up,
    stall,
    status,
    stream_all,
    transport,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from tests.lake.fake_server import Fault

BLOB = bytes(range(256)) * 20_000  # 5 MB


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
async def test_a_passing_trouble_is_waited_out(server: FakeServer, autojump_clock: MockClock, code: int) -> None:
    server.objects["x"] = b"there"
    server.faults = [status(code)] * 4
    lake = transport(server)
    begun = trio.current_time()
    assert await lake.get("x", max_bytes=100) == b"there"
    assert 1.875 <= trio.current_time() - begun <= 3.75
    assert lake.statistics().retries_total == 4


async def test_a_lasting_trouble_is_unavailable_after_five_attempts(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    server.always = status(503)
    lake = transport(server)
    with pytest.raises(Unavailable, match="answered 503"):
        await lake.get("x", max_bytes=100)
    assert len(server.requests) == 5


async def test_retry_after_is_obeyed_when_it_is_short(server: FakeServer, autojump_clock: MockClock) -> None:
    server.objects["x"] = b"there"
    server.faults = [status(429, {"Retry-After": "17"})]
    begun = trio.current_time()
    assert await transport(server).get("x", max_bytes=100) == b"there"
    assert trio.current_time() - begun == pytest.approx(17)


async def test_a_server_that_never_answers_is_too_slow(server: FakeServer, autojump_clock: MockClock) -> None:
    server.always = stall
    begun = trio.current_time()
    with pytest.raises(TooSlow, match="nothing came"):
        await transport(server).get("x", max_bytes=100)
    assert len(server.requests) == 2
    assert trio.current_time() - begun == pytest.approx(60, abs=1)


async def test_a_server_that_drips_is_too_slow_for_a_small_object(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    async def drip(_request: Request, wire: Wire) -> bool:
        await wire.head(200, {"Content-Length": "100"})
        while True:
            await wire.send(b"x")
            await trio.sleep(29)

    server.always = drip
    with pytest.raises(TooSlow, match="not complete after 120 s"):
        await transport(server).get("x", max_bytes=100)


async def test_a_cut_stream_goes_on_where_it_broke(server: FakeServer, autojump_clock: MockClock) -> None:
    server.objects["x"], server.etags["x"] = BLOB, '"one"'
    cut = cut_after(3_000_000, size=len(BLOB), headers={"ETag": '"one"'}, body=BLOB)
    server.faults = [cut]
    lake = transport(server)
    assert await stream_all(lake, "x") == BLOB
    assert server.requests[1].headers["range"] == f"bytes=3000000-{len(BLOB) - 1}"
    assert server.requests[1].headers["if-range"] == '"one"'
    assert lake.statistics().resumes_total == 1
    assert lake.statistics().received_bytes_total == len(BLOB)


async def test_a_cut_stream_is_repaired_by_a_server_without_ranges(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    server.objects["x"], server.ranges = BLOB, False
    server.faults = [cut_after(3_000_000, size=len(BLOB), body=BLOB)]
    lake = transport(server)
    assert await stream_all(lake, "x") == BLOB
    assert lake.statistics().ranges_ignored_total == 1


async def test_a_stream_survives_any_number_of_cuts_as_long_as_it_moves(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    server.objects["x"] = BLOB * 4

    async def cut_each(request: Request, wire: Wire) -> bool:
        start = int(re.findall(r"\d+", request.headers.get("range", "0"))[0])
        size = len(BLOB) * 4
        await wire.head(206, {"Content-Range": f"bytes {start}-{size - 1}/{size}", "Content-Length": str(size - start)})
        await wire.send(server.objects["x"][start : start + 1_100_000])
        await wire.stream.aclose()
        return True

    server.always = cut_each
    lake = transport(server)
    assert await stream_all(lake, "x") == BLOB * 4
    assert lake.statistics().resumes_total > 10


async def test_a_stream_that_stands_still_is_given_up(server: FakeServer, autojump_clock: MockClock) -> None:
    async def cut_each(request: Request, wire: Wire) -> bool:
        start = int(re.findall(r"\d+", request.headers.get("range", "0"))[0])
        await wire.head(206, {"Content-Range": f"bytes {start}-99/100", "Content-Length": str(100 - start)})
        await wire.send(b"x")
        await wire.stream.aclose()
        return True

    server.always = cut_each
    with pytest.raises(Unavailable):
        await stream_all(transport(server), "x")
    assert len(server.requests) == 5


async def test_a_stream_that_trickles_is_given_up(server: FakeServer, autojump_clock: MockClock) -> None:
    async def trickles(_request: Request, wire: Wire) -> bool:
        await wire.head(200, {"Content-Length": "1000000"})
        while True:
            await wire.send(b"x")
            await trio.sleep(29)

    server.always = trickles
    lake = transport(server)
    begun = autojump_clock.current_time()
    async with lake.stream("nar/x") as pieces:
        with pytest.raises(TooSlow, match="less than 256 bytes a second came"):
            async for _ in pieces:
                pass
    assert 60 <= autojump_clock.current_time() - begun < 120
    assert lake.statistics().in_flight == 0


async def test_a_stalled_stream_is_resumed_on_a_new_connection(server: FakeServer, autojump_clock: MockClock) -> None:
    server.objects["x"] = BLOB

    async def stall_midway(_request: Request, wire: Wire) -> bool:
        await wire.head(200, {"Content-Length": str(len(BLOB))})
        await wire.send(BLOB[:1_000_000])
        await wire.hold()
        return True

    server.faults = [stall_midway]
    begun = trio.current_time()
    assert await stream_all(transport(server), "x") == BLOB
    assert trio.current_time() - begun == pytest.approx(30, abs=1)
    assert server.connections == 2


@pytest.mark.parametrize("ranges", [True, False])
async def test_an_object_that_changed_in_between_is_never_joined(
    server: FakeServer, autojump_clock: MockClock, ranges: bool
) -> None:
    server.objects["x"], server.etags["x"], server.ranges = BLOB[::-1], '"two"', ranges
    server.faults = [cut_after(3_000_000, size=len(BLOB), headers={"ETag": '"one"'}, body=BLOB)]
    with pytest.raises(Unavailable, match="changed while it was read"):
        await stream_all(transport(server), "x")


async def test_an_object_of_another_size_is_another_object(server: FakeServer, autojump_clock: MockClock) -> None:
    server.objects["x"] = BLOB[:-1]
    server.faults = [cut_after(3_000_000, size=len(BLOB), body=BLOB)]
    with pytest.raises(Unavailable, match="changed while it was read"):
        await stream_all(transport(server), "x")


async def test_an_object_that_vanishes_midway_is_not_absent(server: FakeServer, autojump_clock: MockClock) -> None:
    server.faults = [cut_after(3_000_000, size=len(BLOB), body=BLOB)]
    with pytest.raises(Unavailable, match="vanished"):
        await stream_all(transport(server), "x")


async def test_a_body_shorter_than_its_range_is_a_broken_connection(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    server.objects["x"] = BLOB
    server.faults = [status(206, {"Content-Range": f"bytes 50-99/{len(BLOB)}"}, BLOB[50:60])]
    assert await transport(server).read_range("x", BlobOffset(50), 50) == BLOB[50:100]
    assert server.requests[1].headers["range"] == "bytes=60-99"


async def test_a_broken_chunked_body_is_resumed(server: FakeServer, autojump_clock: MockClock) -> None:
    async def chunked(_request: Request, wire: Wire) -> bool:
        await wire.head(200, {"Transfer-Encoding": "chunked"})
        await wire.send(b"5\r\nhello\r\n")
        await wire.stream.aclose()
        return True

    server.objects["x"] = b"hello world"
    server.faults = [chunked]
    assert await stream_all(transport(server), "x") == b"hello world"


async def test_a_server_that_hangs_up_is_asked_again(server: FakeServer, autojump_clock: MockClock) -> None:
    server.objects["x"] = b"there"
    server.faults = [hang_up, hang_up]
    assert await transport(server).get("x", max_bytes=100) == b"there"


async def test_nonsense_instead_of_http_is_unavailable(server: FakeServer, autojump_clock: MockClock) -> None:
    async def nonsense(_request: Request, wire: Wire) -> bool:
        await wire.send(b"\x00\x01\x02 SSH-2.0\r\n\r\n")
        return True

    server.always = nonsense
    with pytest.raises(Unavailable):
        await transport(server).get("x", max_bytes=100)


async def test_a_small_upload_is_tried_again(server: FakeServer, autojump_clock: MockClock) -> None:
    server.faults = [status(503), hang_up]
    await transport(server).put("x.narinfo", chunks(b"Store", b"Path"), 9)
    assert server.objects == {"x.narinfo": b"StorePath"}


class Again:
    """What can be read as often as it is asked for: a blob in a file."""

    def __init__(self) -> None:
        self.begun = self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun += 1
        try:
            for start in range(0, len(BLOB), 1_000_000):
                await trio.lowlevel.checkpoint()
                yield BLOB[start : start + 1_000_000]
        finally:
            self.closed += 1


@pytest.mark.parametrize("fault", [status(503), hang_up, stall], ids=["503", "hang up", "stall"])
async def test_a_blob_that_can_be_read_again_is_sent_again(
    server: FakeServer, autojump_clock: MockClock, fault: Fault
) -> None:
    server.faults = [fault]
    lake, blob = transport(server), Again()
    await lake.put("nar/x.nar", blob, len(BLOB))
    assert server.objects == {"nar/x.nar": BLOB}
    assert (blob.begun, blob.closed) == (2, 2)
    assert lake.statistics().retries_total == 1
    assert lake.statistics().sent_bytes_total == len(BLOB)


async def test_an_upload_that_breaks_midway_is_sent_again(server: FakeServer, autojump_clock: MockClock) -> None:
    server.bodies_until = [2_000_000, 3_500_000]
    blob = Again()
    await transport(server).put("nar/x.nar", blob, len(BLOB))
    assert server.objects == {"nar/x.nar": BLOB}
    assert (blob.begun, blob.closed) == (3, 3)


async def test_a_lasting_trouble_ends_an_upload_after_five_attempts(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    server.always = status(503)
    blob = Again()
    with pytest.raises(Unavailable, match="answered 503"):
        await transport(server).put("nar/x.nar", blob, len(BLOB))
    assert (blob.begun, blob.closed) == (5, 5)


async def test_what_can_be_read_only_once_is_sent_only_once(server: FakeServer, autojump_clock: MockClock) -> None:
    server.faults = [status(503)]
    async with aclosing(chunks(BLOB)) as once:
        with pytest.raises(Unavailable, match="answered 503"):
            await transport(server).put("nar/x.nar", once, len(BLOB))
    assert server.objects == {}
