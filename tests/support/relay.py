"""A relay in front of a real server, which breaks connections on order."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field

import trio

_PIECE_BYTES = 64 * 1024


@dataclass(slots=True)
class Relay:
    """Passes connections on to ``port``."""

    port: int
    cuts: list[int] = field(default_factory=list)
    """Bytes sent over a connection before it is reset, used up in order."""
    pause_s: float = 0
    """Time that each piece of an upload takes."""
    url: str = ""

    async def converse(self, client: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with (
                client,
                await trio.open_tcp_stream("127.0.0.1", self.port) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(_pass, server, client)
                await self._upload(client, server)
                nursery.cancel_scope.cancel()

    async def _upload(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        sent = 0
        while data := await client.receive_some(_PIECE_BYTES):
            sent += len(data)
            if self.cuts and sent >= self.cuts[0]:
                self.cuts.pop(0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            await trio.sleep(self.pause_s)
            await server.send_all(data)


async def _pass(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await source.receive_some(_PIECE_BYTES):
            await sink.send_all(data)


async def relay(port: int, *, task_status: trio.TaskStatus[Relay] = trio.TASK_STATUS_IGNORED) -> None:
    """Relay until cancelled; to be started with ``nursery.start``, which gives the Relay."""
    made = Relay(port)
    listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    made.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, made.converse, listeners)
        task_status.started(made)
