"""An HTTP server inside the test's own event loop: real HTTP over memory streams, no sockets, no real time.

It dials links for the direct client and is a network backend of httpcore: everything above is the real thing. It serves
``objects``, and each request may meet a *fault* first: a coroutine that answers in its own way (and returns True) or
leaves it to the server (False).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpcore
import trio
from httpcore._backends.trio import TrioStream
from trio.testing import memory_stream_pair

from narfs.lake.client import LakeClient, make_client
from narfs.lake.direct import DirectClient
from narfs.lake.http import HttpTransport
from narfs.lake.link import Link, Origin
from narfs.lake.response import StalledError
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl
from narfs.offsets import BlobOffset

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable

    from narfs.lake.transport import Transport

    MemoryStream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]
    Fault = Callable[["Request", "Wire"], Awaitable[bool]]


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def name(self) -> str:
        return self.target.lstrip("/")


@dataclass
class Wire:
    """The server's end of one connection."""

    stream: trio.abc.Stream

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        await self.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        for start in range(0, len(body), 50_000):
            await self.send(body[start : start + 50_000])

    async def hold(self) -> None:
        """Do nothing until the client hangs up."""
        while await self.stream.receive_some():
            pass

    async def head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{key}: {value}" for key, value in headers.items())]
        await self.send("\r\n".join([*lines, "", ""]).encode())


@dataclass
class FakeServer(httpcore.AsyncNetworkBackend):
    nursery: trio.Nursery
    objects: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    proxied: bool = False
    """Whether clients ask as if there were a proxy: through httpx."""
    faults: list[Fault | None] = field(default_factory=list)
    """One for each request to come; None: none for that one."""
    always: Fault | None = None
    """Met by every request for which there is nothing in ``faults``."""
    bodies_until: list[int] = field(default_factory=list)
    """One for each upload to come: where in its body the server hangs up."""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0

    async def connect_tcp(self, *_args: Any, **_options: Any) -> httpcore.AsyncNetworkStream:
        return _MemoryStream(await self.connected())

    async def dial(self, origin: Origin) -> Link:
        return MemoryLink(origin, await self.connected())

    async def connected(self) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        client, server = memory_stream_pair()
        self.nursery.start_soon(self._serve, server)
        return client

    @property
    def asked(self) -> list[str]:
        return [request.name for request in self.requests]

    async def _serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            async with stream:
                wire = Wire(stream)
                while (request := await _read_request(stream, self.bodies_until)) is not None:
                    self.requests.append(request)
                    fault = self.faults.pop(0) if self.faults else self.always
                    if fault is None or not await fault(request, wire):
                        await self._answer(request, wire)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open_connections -= 1

    async def _answer(self, request: Request, wire: Wire) -> None:
        if request.method == "PUT":
            self.objects[request.name] = request.body
            await wire.answer(201)
            return
        body = self.objects.get(request.name)
        if body is None:
            await wire.answer(404, b"no such thing")
            return
        headers = {"ETag": self.etags[request.name]} if request.name in self.etags else {}
        if request.method == "HEAD":
            await wire.head(200, {"Content-Length": str(len(body)), **headers})
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")) if self.ranges else None
        changed = "if-range" in request.headers and request.headers["if-range"] != headers.get("ETag")
        if span is None or changed:
            await wire.answer(200, body, headers)
            return
        start, end = int(span[1]), min(int(span[2] or len(body)) + 1, len(body))
        if start >= len(body):
            await wire.answer(416, headers={"Content-Range": f"bytes */{len(body)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        await wire.answer(206, body[start:end], headers)


def transport(server: FakeServer, settings: LakeSettings | None = None, url: str = "http://lake.test") -> HttpTransport:
    """Make the transport under test; its client lives as long as the test."""
    settings = settings or LakeSettings()
    return HttpTransport(client(server, settings), StoreUrl.parse(url), settings)


def client(server: FakeServer, settings: LakeSettings) -> LakeClient:
    made = make_client(settings, tls=False, environ={})
    through: Any = made.through.client
    through._transport._pool = httpcore.AsyncConnectionPool(network_backend=server, max_connections=None)
    through._mounts.clear()
    return LakeClient(
        DirectClient(server.dial, max_kept=3), lambda: made.through, frozenset({"http"} if server.proxied else ())
    )


class _MemoryStream(TrioStream):
    def get_extra_info(self, _info: str) -> None:
        """Know nothing: there is no socket."""


class MemoryLink(Link):
    """A link as patient as the default settings are."""

    def __init__(self, origin: Origin, stream: MemoryStream) -> None:
        self.origin = origin
        self.stale = False
        self._stream = stream

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self, max_bytes: int) -> bytes:
        with trio.move_on_after(LakeSettings().stall_deadline_s):
            return bytes(await self._stream.receive_some(max_bytes))
        raise StalledError("nothing came within the deadline")

    def is_stale(self) -> bool:
        return self.stale

    def close(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


async def _read_request(stream: trio.abc.Stream, bodies_until: list[int]) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := await stream.receive_some()):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
    until = bodies_until.pop(0) if bodies_until and method == "PUT" else None
    while len(body) < int(headers.get("content-length", "0")):
        if until is not None and len(body) >= until:
            return None
        if not (more := await stream.receive_some()):
            return None
        body += more
    return Request(method, target, headers, body)


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"trouble") -> Fault:
    """Answer with ``code``."""

    async def fault(_request: Request, wire: Wire) -> bool:
        await wire.answer(code, body, headers)
        return True

    return fault


def cut_after(count: int, *, size: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Fault:
    """Promise ``size`` bytes, send the first ``count`` of ``body`` and close the connection."""

    async def fault(_request: Request, wire: Wire) -> bool:
        await wire.head(200, {"Content-Length": str(size), **(headers or {})})
        await wire.send(body[:count])
        await wire.stream.aclose()
        return True

    return fault


async def hang_up(_request: Request, wire: Wire) -> bool:
    """Close the connection without an answer."""
    await wire.stream.aclose()
    return True


async def stall(_request: Request, wire: Wire) -> bool:
    """Never answer."""
    await wire.hold()
    return True


async def collect(pieces: AsyncIterable[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def stream_all(lake: Transport, name: str, start: int = 0) -> bytes:
    async with lake.stream(name, start=BlobOffset(start)) as pieces:
        return await collect(pieces)


async def chunks(*data: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in data:
        await trio.lowlevel.checkpoint()
        yield chunk
