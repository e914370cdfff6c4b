"""The server that other tests lean on does what it is told, seen by the plainest of clients."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio
import trustme

from tests.support.faults import Distance, Fault, Stall
from tests.support.packing import pack
from tests.support.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONTENTS = bytes(range(256)) * 4000


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    (tmp_path / "nar").mkdir()
    (tmp_path / "nar" / "one").write_bytes(CONTENTS)
    (tmp_path / "nar" / "two").write_bytes(b"two")
    (tmp_path / "empty").touch()
    async with trio.open_nursery() as nursery:
        started: Server = await nursery.start(serve, tmp_path)
        yield started
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    try:
        yield connection
    finally:
        connection.close()


async def ask(
    server: Server,
    path: str,
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
    over: http.client.HTTPConnection | None = None,
) -> Answer:
    """Ask with the standard library's client in a thread, on a connection of its own unless one is given."""

    def blocking(connection: http.client.HTTPConnection) -> Answer:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())

    if over is not None:
        return await trio.to_thread.run_sync(blocking, over)
    async with connected(server) as connection:
        return await trio.to_thread.run_sync(blocking, connection)


async def test_a_file_is_served_whole_with_its_length(server: Server) -> None:
    answer = await ask(server, "/nar/one?query=1")
    assert (answer.status, answer.body) == (200, CONTENTS)
    assert answer.headers["content-length"] == str(len(CONTENTS))
    assert (await ask(server, "/empty")).body == b""
    head = await ask(server, "/nar/one", method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(CONTENTS)), b"")


@pytest.mark.parametrize("path", ["/absent", "/nar", "/"])
async def test_what_is_no_file_is_not_found(server: Server, path: str) -> None:
    assert (await ask(server, path)).status in (400, 404)


async def test_nothing_outside_the_directory_is_served(server: Server) -> None:
    assert (await ask(server, "/../../etc/passwd")).status == 400
    assert (await ask(server, "/%2e%2e/etc/passwd")).status == 400


@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("10-19", 10, 20), ("1000000-", 1_000_000, None), ("-24", -24, None), ("5-5", 5, 6)]
)
async def test_a_range_is_answered_with_just_its_bytes(
    server: Server, asked: str, start: int, stop: int | None
) -> None:
    answer = await ask(server, "/nar/one", {"Range": f"bytes={asked}"})
    assert (answer.status, answer.body) == (206, CONTENTS[start:stop])
    first = start % len(CONTENTS)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(CONTENTS)}"


async def test_a_range_behind_the_end_cannot_be_satisfied(server: Server) -> None:
    answer = await ask(server, "/nar/two", {"Range": "bytes=3-"})
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */3")


async def test_a_range_of_another_version_gets_the_whole_file(server: Server) -> None:
    etag = (await ask(server, "/nar/two")).headers["etag"]
    assert (await ask(server, "/nar/two", {"Range": "bytes=1-", "If-Range": etag})).status == 206
    assert (await ask(server, "/nar/two", {"Range": "bytes=1-", "If-Range": '"other"'})).body == b"two"


async def test_a_connection_serves_many_requests_and_all_are_logged(server: Server) -> None:
    async with connected(server) as connection:
        for _ in range(3):
            await ask(server, "/nar/two", over=connection)
        await ask(server, "/nar/one", {"Range": "bytes=0-9"}, over=connection)
    assert [(one.method, one.path, one.range, one.status, one.sent_bytes) for one in server.log] == [
        *3 * [("GET", "/nar/two", None, 200, 3)],
        ("GET", "/nar/one", "bytes=0-9", 206, 10),
    ]
    assert server.asked("/nar/o*") == server.log[3:]
    counted = server.statistics()
    assert (counted.connections_total, counted.requests_total, counted.sent_bytes_total) == (1, 4, 19)
    assert counted.in_flight == 0


async def test_what_is_put_is_there(server: Server) -> None:
    answer = await ask(server, "/new/deep", {"Expect": "100-continue"}, method="PUT", body=CONTENTS)
    assert answer.status == 201
    assert (await ask(server, "/new/deep")).body == CONTENTS
    assert server.statistics().received_bytes_total == len(CONTENTS)


async def test_a_status_is_given_as_often_as_ordered(server: Server) -> None:
    server.on("/nar/*", Fault(status=429, headers={"Retry-After": "7"}), times=2)
    answers = [await ask(server, "/nar/two") for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "7"


async def test_orders_hold_for_their_path_and_method_until_forgotten(server: Server) -> None:
    server.on("/nar/t*", Fault(status=403), method="HEAD")
    assert (await ask(server, "/nar/two", method="HEAD")).status == 403
    assert (await ask(server, "/nar/one", method="HEAD")).status == 200
    assert (await ask(server, "/nar/two")).status == 200
    server.behave()
    assert (await ask(server, "/nar/two", method="HEAD")).status == 200


async def test_a_body_is_cut_reset_or_shorter_than_said(server: Server) -> None:
    server.on("/nar/one", Fault(cut_after=300_000), times=1)
    server.on("/nar/one", Fault(content_length=len(CONTENTS) + 1), times=1)
    for sent in (300_000, len(CONTENTS)):
        with pytest.raises(http.client.IncompleteRead) as caught:
            await ask(server, "/nar/one")
        assert caught.value.partial == CONTENTS[:sent]
    server.on("/nar/one", Fault(reset_after=10))
    with pytest.raises(ConnectionResetError):
        await ask(server, "/nar/one")


async def test_a_stalled_body_goes_on_when_released(server: Server) -> None:
    stall = Stall(after=1000)
    server.on("/nar/one", Fault(stall=stall))
    answers: list[Answer] = []

    async def client() -> None:
        answers.append(await ask(server, "/nar/one"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await stall.reached.wait()
        assert server.statistics().in_flight == 1
        assert server.log[0].sent_bytes == 1000
        assert (await ask(server, "/nar/two")).body == b"two"
        stall.released.set()
    assert answers[0].body == CONTENTS


async def test_a_range_can_be_ignored_or_lied_about(server: Server) -> None:
    server.on("/nar/one", Fault(ignore_range=True), times=1)
    server.on("/nar/one", Fault(content_range="bytes 0-9/10"), times=1)
    ignored = await ask(server, "/nar/one", {"Range": "bytes=5-9"})
    assert (ignored.status, ignored.body) == (200, CONTENTS)
    lied = await ask(server, "/nar/one", {"Range": "bytes=5-9"})
    assert (lied.status, lied.headers["content-range"], lied.body) == (206, "bytes 0-9/10", CONTENTS[5:10])


async def test_a_byte_is_flipped_at_its_place_in_the_file(server: Server) -> None:
    server.on("/nar/two", Fault(flip_at=1))
    assert (await ask(server, "/nar/two")).body == b"tvo"
    assert (await ask(server, "/nar/two", {"Range": "bytes=1-"})).body == b"vo"
    assert (await ask(server, "/nar/two", {"Range": "bytes=2-"})).body == b"o"


async def test_bodies_are_swapped_redirected_and_encoded(server: Server) -> None:
    server.on("/nar/one", Fault(body_of="/nar/two"), times=1)
    assert (await ask(server, "/nar/one")).body == b"two"
    server.on("/nar/one", Fault(redirect="https://elsewhere.example/x"), times=1)
    redirected = await ask(server, "/nar/one")
    assert (redirected.status, redirected.headers["location"]) == (302, "https://elsewhere.example/x")
    server.on("/nar/one", Fault(content_encoding="gzip"), times=1)
    encoded = await ask(server, "/nar/one", {"Range": "bytes=5-9"})
    assert (encoded.status, encoded.headers["content-encoding"]) == (200, "gzip")
    assert encoded.body == pack(CONTENTS, "gzip")


async def test_a_body_drips_and_a_distant_server_waits(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0.05
    (tmp_path / "ten").write_bytes(b"0123456789")
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(serve, tmp_path)
        started = trio.current_time()
        server.on("/ten", Fault(drip=(3, 5.0)), times=1)
        await ask(server, "/ten")
        assert trio.current_time() - started == pytest.approx(15)
        started, server.distance = trio.current_time(), Distance(rtt_s=2, bytes_per_s=5)
        await ask(server, "/ten")
        assert trio.current_time() - started == pytest.approx(4)
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_takes_nothing_with_it(server: Server) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    for farewell in (
        b"",
        b"no http at all\r\n\r\n",
        b"GET /nar/one HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /x HTTP/1.1\r\n",
    ):
        with socket.create_connection(address) as client:
            client.sendall(farewell)
    assert (await ask(server, "/nar/two")).body == b"two"


async def test_it_speaks_tls_and_survives_clients_that_do_not_trust_it(tmp_path: Path) -> None:
    authority, ours = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    trusting, wary = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusting)
    (tmp_path / "file").write_bytes(CONTENTS)

    def blocking(address: str, context: ssl.SSLContext) -> bytes:
        with closing(http.client.HTTPSConnection(address, timeout=10, context=context)) as connection:
            connection.request("GET", "/file")
            return connection.getresponse().read()

    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(partial(serve, tmp_path, ssl_context=ours))
        address = server.url.removeprefix("https://")
        with pytest.raises(ssl.SSLCertVerificationError):
            await trio.to_thread.run_sync(blocking, address, wary)
        assert await trio.to_thread.run_sync(blocking, address, trusting) == CONTENTS
        server.on("/file", Fault(reset_after=10))
        with pytest.raises((OSError, http.client.IncompleteRead)):
            await trio.to_thread.run_sync(blocking, address, trusting)
        nursery.cancel_scope.cancel()


def test_it_serves_as_a_process_and_tells_its_counters(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"contents")
    program = [sys.executable, "-m", "tests.support.server", str(tmp_path), "--rtt-ms=1", "--mbit=1000"]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        with closing(client):
            client.request("GET", "/file")
            assert client.getresponse().read() == b"contents"
            client.request("GET", "/.statistics")
            assert b'"requests_total": 1, "sent_bytes_total": 8' in client.getresponse().read()
        process.send_signal(signal.SIGTERM)
