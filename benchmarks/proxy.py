"""A counting proxy in front of a lake: every competitor fetches through it, with the same latency and bandwidth.

A pair of tasks per connection moves bytes. Each piece is due half a round trip after it came, and downstream no earlier
than the link (one, shared by all connections) could have carried it. A connection costs a round trip before its first
byte, as a TCP handshake does. The counters lie in a small mapped file, so that reading them costs the proxy nothing.
"""

from __future__ import annotations

import math
import mmap
import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from benchmarks.processes import child, free_port, listens, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COUNTERS = struct.Struct("<4Q")
_PIECE_BYTES = 256 * 1024
_IN_FLIGHT = 64
"""Pieces under way in one direction of a connection: 16 MiB, more than 1 Gbit/s holds in 100 ms."""

_REQUEST_LINE_END = b" HTTP/1.1\r\n"
"""Counted in what clients send. Benchmarks only GET, so no body can hold it."""


class Link(NamedTuple):
    """What lies between client and lake; ``rtt_s`` 0 and ``bits_per_s`` infinite is this machine's loopback."""

    rtt_s: float = 0.0
    bits_per_s: float = math.inf

    def __str__(self) -> str:
        if not self.rtt_s and math.isinf(self.bits_per_s):
            return "loopback"
        return f"{self.rtt_s * 1000:g} ms, {self.bits_per_s / 1e6:g} Mbit/s"


class Traffic(NamedTuple):
    """What passed since the proxy started; downloads counted with HTTP heads, as they arrive from the lake."""

    connections: int
    requests: int
    bytes_up: int
    bytes_down: int

    def since(self, before: Traffic) -> Traffic:
        """Subtract."""
        return Traffic(*(now - then for now, then in zip(self, before, strict=True)))


class Proxy(NamedTuple):
    """A running proxy as its user sees it."""

    port: int
    counters: mmap.mmap

    def traffic(self) -> Traffic:
        """Read the counters."""
        return Traffic(*_COUNTERS.unpack_from(self.counters))


@contextmanager
def proxy(lake_port: int, base: Path, link: Link | None = None) -> Iterator[Proxy]:
    """Run a proxy process in front of a port of this machine."""
    link = link or Link()
    base.mkdir(parents=True, exist_ok=True)
    port, counters, log = free_port(), base / f"counters-{lake_port}", base / "proxy.log"
    counters.write_bytes(bytes(_COUNTERS.size))
    arguments = (port, lake_port, counters, link.rtt_s, link.bits_per_s)
    with child((sys.executable, "-m", "benchmarks.proxy", *map(str, arguments)), log=log) as process:
        wait_until(lambda: listens(port), process, log)
        with counters.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            yield Proxy(port, mapped)


class _Relay:
    def __init__(self, lake_port: int, counters: mmap.mmap, link: Link) -> None:
        self._lake_port = lake_port
        self._counters = counters
        self._link = link
        self._link_free_at = 0.0
        self._connections = self._requests = self._up = self._down = 0

    async def serve(self, client: trio.SocketStream) -> None:
        await trio.sleep(self._link.rtt_s)
        async with client, await trio.open_tcp_stream("127.0.0.1", self._lake_port) as lake:
            self._connections += 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, client, lake, True, nursery.cancel_scope)
                nursery.start_soon(self._carry, lake, client, False, nursery.cancel_scope)

    async def _carry(
        self, source: trio.SocketStream, sink: trio.SocketStream, up: bool, connection: trio.CancelScope
    ) -> None:
        """Move one direction: this task receives and dates, a child delivers when due."""
        sender, receiver = trio.open_memory_channel[tuple[float, bytes]](_IN_FLIGHT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_deliver, receiver, sink, connection)
            async with sender:
                tail = b""
                try:
                    while piece := await source.receive_some(_PIECE_BYTES):
                        tail = self._count(tail + piece, len(piece), up)
                        await sender.send((self._due(len(piece), up), piece))
                except trio.BrokenResourceError:
                    connection.cancel()

    def _count(self, text: bytes, new: int, up: bool) -> bytes:
        if up:
            self._up += new
            self._requests += text.count(_REQUEST_LINE_END)
        else:
            self._down += new
        _COUNTERS.pack_into(self._counters, 0, self._connections, self._requests, self._up, self._down)
        return text[-(len(_REQUEST_LINE_END) - 1) :] if up else b""

    def _due(self, length: int, up: bool) -> float:
        now = trio.current_time()
        if not up:
            self._link_free_at = now = max(now, self._link_free_at) + length * 8 / self._link.bits_per_s
        return now + self._link.rtt_s / 2


async def _deliver(
    pieces: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.SocketStream, connection: trio.CancelScope
) -> None:
    try:
        async for due, piece in pieces:
            await trio.sleep_until(due)
            await sink.send_all(piece)
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):  # one side hung up: so does the other
        connection.cancel()


def main(port: str, lake_port: str, counters: str, rtt_s: str, bits_per_s: str) -> None:
    """Run until killed; ``python -m benchmarks.proxy`` with the arguments ``proxy`` gives."""
    link = Link(float(rtt_s), float(bits_per_s))
    with open(counters, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:  # noqa: PTH123 - only handed to mmap
        relay = _Relay(int(lake_port), mapped, link)
        trio.run(trio.serve_tcp, relay.serve, int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
