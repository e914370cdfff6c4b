"""The direct client alone: which links it keeps, and what it takes for the end of a body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from trio.testing import wait_all_tasks_blocked

from narfs.lake.direct import KEEP_ALIVE_S, DirectClient
from narfs.lake.link import RECEIVE_BYTES
from narfs.lake.response import BrokenError, ImpossibleError
from tests.lake.fake_server import FakeServer, MemoryLink, status

if TYPE_CHECKING:
    import trio
    from trio.testing import MockClock

    from narfs.lake.link import Link, Origin
    from tests.lake.fake_server import Request, Wire

URL = "http://lake.test/x"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.fixture
def server(nursery: trio.Nursery) -> FakeServer:
    return FakeServer(nursery, objects={"x": b"hello"})


@pytest.fixture
def client(server: FakeServer) -> DirectClient:
    return DirectClient(server.dial, max_kept=2)


async def ask(client: DirectClient, url: str = URL, method: str = "GET") -> bytes:
    answer = await client.ask(method, url, {})
    try:
        return await answer.read_up_to(10_000_000)
    finally:
        await answer.aclose()


def says(server: FakeServer, text: bytes, *, hang_up: bool = False) -> None:
    """Let the server answer in these very bytes, once."""

    async def fault(_request: Request, wire: Wire) -> bool:
        await wire.send(text)
        if hang_up:
            await wire.stream.aclose()
        return True

    server.faults = [fault]


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        CHUNKED,
    ],
)
async def test_a_link_is_used_again_after_a_whole_body(server: FakeServer, client: DirectClient, text: bytes) -> None:
    says(server, text)
    assert await ask(client) == b"hello"
    assert await ask(client) == b"hello"
    assert server.connections == 1


async def test_a_link_is_used_again_after_an_answer_without_a_body(server: FakeServer, client: DirectClient) -> None:
    assert await ask(client, method="HEAD") == b""
    says(server, b"HTTP/1.1 204 No Content\r\n\r\n")
    assert await ask(client) == b""
    says(server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert await ask(client) == b""
    assert server.connections == 1


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
        CHUNKED + b"and more",
    ],
)
async def test_a_link_is_closed_after_a_body_with_which_it_ends(
    server: FakeServer, client: DirectClient, text: bytes
) -> None:
    says(server, text)
    assert await ask(client) == b"hello"
    await wait_all_tasks_blocked()
    assert server.open_connections == 0


async def test_a_body_without_a_length_ends_with_its_connection(server: FakeServer, client: DirectClient) -> None:
    says(server, b"HTTP/1.1 200 OK\r\n\r\nhello", hang_up=True)
    assert await ask(client) == b"hello"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        CHUNKED[:-5],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nwhat?\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + bytes(200_000),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5_000 + CHUNKED,
    ],
)
async def test_what_is_cut_or_nonsense_is_a_protocol_error_and_the_link_is_closed(
    server: FakeServer, client: DirectClient, text: bytes
) -> None:
    says(server, text, hang_up=True)
    with pytest.raises(BrokenError):
        await ask(client)
    await wait_all_tasks_blocked()
    assert server.open_connections == 0


async def test_a_link_is_closed_if_the_body_is_not_wanted(server: FakeServer, client: DirectClient) -> None:
    server.objects["x"] = bytes(RECEIVE_BYTES + 1)
    answer = await client.ask("GET", URL, {})
    await answer.next_chunk()
    await answer.aclose()
    assert await answer.next_chunk() is None
    await wait_all_tasks_blocked()
    assert server.open_connections == 0


async def test_a_kept_link_with_an_end_or_a_word_on_it_is_not_used(server: FakeServer) -> None:
    links: list[MemoryLink] = []

    async def dial(origin: Origin) -> Link:
        links.append(MemoryLink(origin, await server.connected()))
        return links[-1]

    client = DirectClient(dial, max_kept=2)
    await ask(client)
    links[0].stale = True
    await ask(client)
    assert len(links) == 2
    await wait_all_tasks_blocked()
    assert server.open_connections == 1


async def test_when_a_kept_link_breaks_the_others_to_there_are_not_tried(server: FakeServer) -> None:
    client = DirectClient(server.dial, max_kept=5)
    answers = [await client.ask("GET", f"http://{host}.test/x", {}) for host in "aaab"]
    for answer in answers:
        await answer.read_up_to(100)
        await answer.aclose()
    says(server, b"", hang_up=True)
    with pytest.raises(BrokenError):
        await ask(client, "http://a.test/x")
    await wait_all_tasks_blocked()
    assert server.open_connections == 1
    assert await ask(client, "http://a.test/x") == b"hello"
    assert await ask(client, "http://b.test/x") == b"hello"
    assert server.connections == 5


async def test_a_link_is_not_kept_for_longer_than_servers_do(
    server: FakeServer, client: DirectClient, mock_clock: MockClock
) -> None:
    await ask(client)
    mock_clock.jump(KEEP_ALIVE_S - 1)
    await ask(client)
    assert server.connections == 1
    mock_clock.jump(KEEP_ALIVE_S)
    await ask(client)
    assert server.connections == 2


async def test_links_are_kept_for_their_own_origin_and_no_more_than_allowed(
    server: FakeServer, client: DirectClient
) -> None:
    for host in ("a", "b", "c", "c", "b"):
        await ask(client, f"http://{host}.test/x")
    assert server.connections == 3
    await wait_all_tasks_blocked()
    assert server.open_connections == 2
    client.close()
    await wait_all_tasks_blocked()
    assert server.open_connections == 0


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("http://lake.test", "lake.test", "/"),
        ("http://me:secret@lake.test:81/x?a=b%20c#d", "lake.test:81", "/x?a=b%20c"),
        ("http://[::1]:8080/x", "[::1]:8080", "/x"),
        ('http://lake.test/ü "<x>"', "lake.test", "/%C3%BC%20%22%3Cx%3E%22"),
        ("http://bücher.test/x", "xn--bcher-kva.test", "/x"),
    ],
)
async def test_a_url_becomes_a_host_and_a_target(
    server: FakeServer, client: DirectClient, url: str, host: str, target: str
) -> None:
    server.always = status(200)
    await ask(client, url)
    assert (server.requests[0].headers["host"], server.requests[0].target) == (host, target)


async def test_no_url_and_no_header_can_smuggle_in_another(server: FakeServer, client: DirectClient) -> None:
    with pytest.raises(ImpossibleError):
        await ask(client, "http://lake.test/x\r\nX-Other: y")
    with pytest.raises(ImpossibleError):
        await client.ask("GET", URL, {"Range": "bytes=0-1\r\nX-Other: y"})
    assert server.requests == []


async def test_a_value_that_is_not_ascii_goes_back_as_it_came(server: FakeServer, client: DirectClient) -> None:
    says(server, b'HTTP/1.1 200 OK\r\nETag: "\xe9"\r\nContent-Length: 0\r\n\r\n')
    answer = await client.ask("GET", URL, {})
    await answer.aclose()
    await (await client.ask("GET", URL, {"If-Range": answer.headers["etag"]})).aclose()
    assert server.requests[-1].headers["if-range"] == '"\xe9"'


async def test_a_header_that_comes_twice_is_one_with_both_values(server: FakeServer, client: DirectClient) -> None:
    says(server, b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\ncontent-encoding: gzip\r\nContent-Length: 0\r\n\r\n")
    answer = await client.ask("GET", URL, {})
    assert answer.headers["content-encoding"] == "br, gzip"
    await answer.aclose()
