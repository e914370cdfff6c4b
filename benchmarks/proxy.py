"""A counting proxy in front of a lake: every competitor fetches through it, with the same latency and bandwidth.

Each piece is due half a round trip after it came, and downstream no earlier than the link (one, shared by all
connections) could have carried it. A connection costs a round trip before its first byte, as a TCP handshake does. The
counters lie in a small mapped file, so that reading them costs the proxy nothing; so does what is wrong with the link
now (``Trouble``). Plain callbacks, because the proxy has the processors in common with what is measured.
"""

from __future__ import annotations

import asyncio
import math
import mmap
import selectors
import struct
import sys
from collections import deque
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.processes import child, free_port, listens, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COUNTERS = struct.Struct("<4Q")
_TROUBLE_AT = _COUNTERS.size
_IN_FLIGHT_BYTES = 16 << 20
"""Under way in one direction of a connection: more than 1 Gbit/s holds in 100 ms."""

_LOOK_AGAIN_S = 0.01

_REQUEST_LINE_END = b" HTTP/1.1\r\n"
"""Counted in what clients send. Benchmarks only GET, so no body can hold it."""


class Trouble(IntEnum):
    """What a link can do to its users."""

    NONE = 0
    REFUSED = 1
    """New connections are reset, and old ones when something comes over them."""
    SILENT = 2
    """Connections stay, and nothing arrives."""


class Link(NamedTuple):
    """What lies between client and lake; ``rtt_s`` 0 and ``bits_per_s`` infinite is this machine's loopback."""

    rtt_s: float = 0.0
    bits_per_s: float = math.inf

    def __str__(self) -> str:
        if not self.rtt_s and math.isinf(self.bits_per_s):
            return "loopback"
        rate = "unlimited" if math.isinf(self.bits_per_s) else f"{self.bits_per_s / 1e6:g} Mbit/s"
        return f"{self.rtt_s * 1000:g} ms, {rate}"


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

    @property
    def url(self) -> str:
        """The lake's, behind it."""
        return f"http://127.0.0.1:{self.port}"

    def traffic(self) -> Traffic:
        """Read the counters."""
        return Traffic(*_COUNTERS.unpack_from(self.counters))

    @contextmanager
    def trouble(self, kind: Trouble) -> Iterator[None]:
        """Make trouble until the end of the block."""
        self.counters[_TROUBLE_AT] = kind
        try:
            yield
        finally:
            self.counters[_TROUBLE_AT] = Trouble.NONE


@contextmanager
def proxy(lake_port: int, base: Path, link: Link | None = None) -> Iterator[Proxy]:
    """Run a proxy process in front of a port of this machine."""
    link = link or Link()
    base.mkdir(parents=True, exist_ok=True)
    port, counters, log = free_port(), base / f"counters-{lake_port}", base / "proxy.log"
    counters.write_bytes(bytes(_COUNTERS.size + 1))
    arguments = (port, lake_port, counters, link.rtt_s, link.bits_per_s)
    with child((sys.executable, "-m", "benchmarks.proxy", *map(str, arguments)), log=log) as process:
        wait_until(lambda: listens(port), process, log)
        with counters.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            yield Proxy(port, mapped)


class _Relay:
    """What all connections share: the link downstream, and the counters."""

    def __init__(self, lake_port: int, counters: mmap.mmap, link: Link) -> None:
        self.lake_port = lake_port
        self.link = link
        self._counters = counters
        self._link_free_at = 0.0
        self._connections = self._requests = self._up = self._down = 0

    def in_trouble(self, kind: Trouble) -> bool:
        """Whether this is what is wrong now."""
        return self._counters[_TROUBLE_AT] == kind

    def connected(self) -> None:
        """Count a connection."""
        self._connections += 1

    def count(self, text: bytes, new: int, *, up: bool) -> bytes:
        """Count bytes, the last ``new`` of ``text``; gives the end of it that may be half of what is searched for."""
        if up:
            self._up += new
            self._requests += text.count(_REQUEST_LINE_END)
        else:
            self._down += new
        _COUNTERS.pack_into(self._counters, 0, self._connections, self._requests, self._up, self._down)
        return text[-(len(_REQUEST_LINE_END) - 1) :] if up else b""

    def due(self, length: int, now: float, *, up: bool) -> float:
        """Say when bytes that came now have passed the link."""
        if not up:
            self._link_free_at = now = max(now, self._link_free_at) + length * 8 / self.link.bits_per_s
        return now + self.link.rtt_s / 2


class _End(asyncio.Protocol):
    """One end of a connection: what it receives is delivered at the other, when due."""

    def __init__(self, relay: _Relay, *, up: bool) -> None:
        self._relay = relay
        self._up = up
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._tail = b""
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream socket
        self.transport = transport
        if self._relay.in_trouble(Trouble.REFUSED):
            transport.abort()
        elif self._up:
            transport.pause_reading()
            self._loop.call_later(self._relay.link.rtt_s, lambda: self._loop.create_task(self._reach_lake()))

    async def _reach_lake(self) -> None:
        self._relay.connected()
        _, lake = await self._loop.create_connection(
            lambda: _End(self._relay, up=False), "127.0.0.1", self._relay.lake_port
        )
        self.other, lake.other = lake, self
        if self.transport is not None:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._relay.in_trouble(Trouble.REFUSED):
            self._abort()
            return
        self._tail = self._relay.count(self._tail + data, len(data), up=self._up)
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > _IN_FLIGHT_BYTES and self.transport is not None:
            self.transport.pause_reading()
        self._loop.call_at(self._relay.due(len(data), self._loop.time(), up=self._up), self._deliver)

    def _abort(self) -> None:
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                end.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._loop.call_later(self._relay.link.rtt_s / 2, self._hang_up)

    def _deliver(self) -> None:
        """Deliver the oldest piece, whichever this timer was for: they are due in the order they came."""
        if self._relay.in_trouble(Trouble.SILENT):
            self._loop.call_later(_LOOK_AGAIN_S, self._deliver)
            return
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        if self.transport is not None and self._waiting <= _IN_FLIGHT_BYTES < self._waiting + len(piece):
            self.transport.resume_reading()
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(piece)

    def _hang_up(self) -> None:
        if self._pieces:  # HTTP over a slow link: the last bytes are not there yet
            self._loop.call_later(0.01, self._hang_up)
        elif self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def _serve(port: int, relay: _Relay) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _End(relay, up=True), "127.0.0.1", port)
    await server.serve_forever()


def main(port: str, lake_port: str, counters: str, rtt_s: str, bits_per_s: str) -> None:
    """Run until killed; ``python -m benchmarks.proxy`` with the arguments ``proxy`` gives."""
    link = Link(float(rtt_s), float(bits_per_s))
    with (
        open(counters, "r+b") as file,  # noqa: PTH123 - only handed to mmap
        mmap.mmap(file.fileno(), 0) as mapped,
        # select(2) waits to the microsecond; epoll_wait rounds each of two legs up to the next millisecond.
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner,
    ):
        runner.run(_serve(int(port), _Relay(int(lake_port), mapped, link)))


if __name__ == "__main__":
    main(*sys.argv[1:])
