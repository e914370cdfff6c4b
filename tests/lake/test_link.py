"""Links over real sockets, with and without TLS."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from narfs.lake.link import RECEIVE_BYTES, Dialler, Link, Origin
from narfs.lake.response import StalledError
from narfs.lake.settings import LakeSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Partner = Callable[[trio.abc.Stream], Awaitable[None]]

CONTENTS = bytes(range(256)) * 12_000  # 3 MB
IMPATIENT = LakeSettings(stall_deadline_s=0.3)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def secure(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@asynccontextmanager
async def linked(partner: Partner, *, secure: bool, settings: LakeSettings | None = None) -> AsyncIterator[Link]:
    """Dial a server that is ``partner`` for one connection."""
    authority = trustme.CA()
    ours, theirs = (
        ssl.create_default_context(purpose) for purpose in (ssl.Purpose.SERVER_AUTH, ssl.Purpose.CLIENT_AUTH)
    )
    authority.configure_trust(ours)
    authority.issue_cert("localhost").configure_cert(theirs)
    listeners: list[trio.abc.Listener[trio.abc.Stream]] = list(await trio.open_tcp_listeners(0, host="127.0.0.1"))
    port = listeners[0].socket.getsockname()[1]  # type: ignore[attr-defined]  # a socket's listener
    if secure:
        listeners = [trio.SSLListener(listener, theirs, https_compatible=True) for listener in listeners]

    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            await partner(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        link = await Dialler(settings or LakeSettings(), ours).dial(Origin("localhost", port, secure))
        try:
            yield link
        finally:
            link.close()
            nursery.cancel_scope.cancel()


async def received(link: Link, count: int) -> bytes:
    parts = []
    while count and (part := await link.receive(min(count, RECEIVE_BYTES))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


async def test_what_is_sent_arrives_and_then_comes_the_end(secure: bool) -> None:
    async def echo(stream: trio.abc.Stream) -> None:
        async for data in stream:
            await stream.send_all(data)
            if data.endswith(b"end"):
                break

    async with linked(echo, secure=secure) as link, trio.open_nursery() as nursery:
        nursery.start_soon(link.send, CONTENTS + b"end")
        assert await received(link, len(CONTENTS) + 3) == CONTENTS + b"end"
        assert await link.receive(10) == b""


async def test_no_more_is_taken_than_was_asked_for(secure: bool) -> None:
    async def partner(stream: trio.abc.Stream) -> None:
        await stream.send_all(CONTENTS)
        await stream.receive_some()

    async with linked(partner, secure=secure) as link:
        assert await received(link, 1000) == CONTENTS[:1000]
        assert await received(link, len(CONTENTS) - 1000) == CONTENTS[1000:]


async def test_an_idle_link_is_stale_once_the_other_side_has_hung_up(secure: bool) -> None:
    async def partner(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"x")
        await stream.receive_some()

    async with linked(partner, secure=secure) as link:
        assert await link.receive(1) == b"x"
        assert not link.is_stale()
        await link.send(b"go")
        with trio.fail_after(60):
            while not link.is_stale():
                await trio.lowlevel.checkpoint()


async def test_an_idle_link_is_stale_if_more_came_than_was_read(secure: bool) -> None:
    async def partner(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"xy")
        await stream.receive_some()

    async with linked(partner, secure=secure) as link:
        assert await link.receive(1) == b"x"
        assert link.is_stale()


async def test_a_broken_connection_is_never_taken_for_the_end() -> None:
    broken = trio.Event()

    async def partner(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        await stream.send_all(b"cut")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        broken.set()

    async with linked(partner, secure=False) as link:
        await broken.wait()
        with pytest.raises(ConnectionResetError):
            await received(link, 100)


async def test_a_server_that_neither_speaks_nor_listens_is_a_timeout(secure: bool) -> None:
    async with linked(silent, secure=secure, settings=IMPATIENT) as link:
        with pytest.raises(StalledError):
            await link.receive(1)
    async with linked(silent, secure=secure, settings=IMPATIENT) as link:
        with pytest.raises(StalledError):
            await link.send(bytes(50_000_000))


async def test_a_handshake_that_does_not_end_is_a_timeout_of_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        origin = Origin("localhost", listening.getsockname()[1], secure=True)
        with pytest.raises(StalledError):
            await Dialler(LakeSettings(connect_deadline_s=0.3), ssl.create_default_context()).dial(origin)


async def test_a_link_that_is_always_full_lets_others_run(secure: bool) -> None:
    async def partner(stream: trio.abc.Stream) -> None:
        while True:
            await stream.send_all(CONTENTS)

    async with linked(partner, secure=secure) as link:
        with trio.move_on_after(60) as scope:
            while True:
                assert await link.receive(1)
                scope.cancel()
        assert scope.cancelled_caught


async def silent(stream: trio.abc.Stream) -> None:
    if isinstance(stream, trio.SSLStream):
        await stream.do_handshake()
    await trio.sleep_forever()
