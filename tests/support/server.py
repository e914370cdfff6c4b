"""A lake that can lie: an HTTP/1.1 server on loopback that serves a directory and misbehaves on order.

In a test: ``server = await nursery.start(serve, directory)``, then ``server.on("/nar/*", Fault(status=503), times=2)``.
As a process: ``python -m tests.support.server DIR`` prints its URL, serves until killed, and tells its counters at
``/.statistics``; ``--rtt-ms`` and ``--mbit`` make it far away.

h11 reads the requests; answers are written by hand, as h11 refuses to lie. Nothing sleeps but what is asked to.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
from argparse import ArgumentParser
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import h11
import trio

from tests.support.faults import NEAR, PIECE_BYTES, Body, Distance, Fault, Order, steps

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(slots=True)
class Asked:
    """One request in the log; ``status`` and ``sent_bytes`` (of the body) follow the answer as it goes out."""

    method: str
    path: str
    range: str | None
    headers: dict[str, str]
    status: int = 0
    sent_bytes: int = 0


class Statistics(NamedTuple):
    """Counters since the start."""

    connections_total: int
    requests_total: int
    sent_bytes_total: int
    received_bytes_total: int
    in_flight: int


class Server:
    """What a test holds of a running server."""

    def __init__(self, directory: Path, distance: Distance) -> None:
        self.directory = directory
        self.distance = distance
        self.url = ""
        self.log: list[Asked] = []
        self.login: str | None = None
        """NAME:PASSWORD that every request must show."""
        self._orders: list[Order] = []
        self._connections_total = self._received_bytes_total = self._in_flight = 0
        self._line_free_at = 0.0

    def on(self, pattern: str, fault: Fault, *, times: int | None = None, method: str = "*") -> None:
        """Misbehave on paths like ``/nar/*``, so many ``times`` or always; the first order that fits counts."""
        self._orders.append(Order(pattern, fault, times, method))

    def behave(self) -> None:
        """Forget all orders; answers under way keep theirs."""
        self._orders.clear()

    def asked(self, pattern: str, method: str = "*") -> list[Asked]:
        """Give the logged requests for paths like that."""
        return [one for one in self.log if fnmatchcase(one.path, pattern) and fnmatchcase(one.method, method)]

    def statistics(self) -> Statistics:
        sent_bytes_total = sum(asked.sent_bytes for asked in self.log)
        return Statistics(
            self._connections_total, len(self.log), sent_bytes_total, self._received_bytes_total, self._in_flight
        )

    async def converse(self, stream: trio.abc.Stream) -> None:
        """Answer the requests of one connection; whatever the client does, only the connection ends."""
        self._connections_total += 1
        rest, keep = b"", True
        with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            async with stream:
                while keep:
                    rest, keep = await self._one_request(stream, rest)

    async def _one_request(self, stream: trio.abc.Stream, rest: bytes) -> tuple[bytes, bool]:
        connection = h11.Connection(h11.SERVER)
        if rest:
            connection.receive_data(rest)
        request = await next_event(connection, stream)
        if not isinstance(request, h11.Request):
            return b"", False
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        path = unquote(urlsplit(request.target.decode("latin-1")).path)
        asked = Asked(request.method.decode(), path, headers.get("range"), headers)
        body = await self._receive(connection, stream)
        if path == "/.statistics":
            await self._send_plain(stream, asked, HTTPStatus.OK, json.dumps(self.statistics()._asdict()).encode(), {})
        else:
            self.log.append(asked)
            self._in_flight += 1
            try:
                fault = next((order.fault for order in self._orders if order.take(asked.method, path)), Fault())
                if not await self._answer(stream, asked, body, fault):
                    return b"", False
            finally:
                self._in_flight -= 1
        return connection.trailing_data[0], headers.get("connection") != "close" and request.http_version == b"1.1"

    async def _receive(self, connection: h11.Connection, stream: trio.abc.Stream) -> bytes:
        if connection.they_are_waiting_for_100_continue:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        while isinstance(event := await next_event(connection, stream), h11.Data):
            body += event.data
        self._received_bytes_total += len(body)
        return bytes(body)

    async def _answer(self, stream: trio.abc.Stream, asked: Asked, body: bytes, fault: Fault) -> bool:
        """Send one answer; give whether the connection may be used again."""
        await trio.sleep(self.distance.rtt_s)
        file = self._file(fault.body_of or asked.path)
        login = asked.headers.get("authorization", "").removeprefix("Basic ")
        if self.login is not None and b64decode(login).decode() != self.login:
            await self._send_plain(stream, asked, HTTPStatus.UNAUTHORIZED, b"who are you?\n", {})
        elif fault.redirect is not None:
            await self._send_plain(stream, asked, HTTPStatus.FOUND, b"", {"Location": fault.redirect, **fault.headers})
        elif fault.status is not None:
            await self._send_plain(stream, asked, fault.status, fault.body, fault.headers)
        elif file is None:
            await self._send_plain(stream, asked, HTTPStatus.BAD_REQUEST, b"", fault.headers)
        elif asked.method == "PUT":
            await self._store(file, body)
            await self._send_plain(stream, asked, HTTPStatus.CREATED, b"", fault.headers)
        elif asked.method not in ("GET", "HEAD"):
            await self._send_plain(stream, asked, HTTPStatus.METHOD_NOT_ALLOWED, b"", fault.headers)
        elif not file.is_file():
            await self._send_plain(stream, asked, HTTPStatus.NOT_FOUND, b"no such file\n", fault.headers)
        else:
            return await self._send_file(stream, asked, file, fault)
        return True

    def _file(self, path: str) -> Path | None:
        parts = path.split("/")[1:]
        return None if {"", ".", ".."} & set(parts) else self.directory.joinpath(*parts)

    async def _store(self, file: Path, body: bytes) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.tmp")
        unfinished.write_bytes(body)
        unfinished.rename(file)

    async def _send_plain(
        self, stream: trio.abc.Stream, asked: Asked, status: int, body: bytes, headers: Mapping[str, str]
    ) -> None:
        await send_head(stream, status, {"Content-Length": str(len(body)), **headers})
        asked.status = status
        if asked.method != "HEAD":
            await stream.send_all(body)
            asked.sent_bytes = len(body)

    async def _send_file(self, stream: trio.abc.Stream, asked: Asked, file: Path, fault: Fault) -> bool:
        with Body(file, fault) as body:
            whole = fault.ignore_range or bool(body.headers) or asked.headers.get("if-range", body.etag) != body.etag
            part = None if whole else _part(asked.range, body.size)
            headers = {"Accept-Ranges": "bytes", "ETag": body.etag, **body.headers}
            if part is None:
                asked.status, part = HTTPStatus.OK, range(body.size)
            elif not part:
                headers = {"Content-Range": f"bytes */{body.size}"}
                await self._send_plain(stream, asked, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", headers)
                return True
            else:
                asked.status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = fault.content_range or f"bytes {part.start}-{part.stop - 1}/{body.size}"
            length = len(part) if fault.content_length is None else fault.content_length
            await send_head(stream, asked.status, {"Content-Length": str(length), **headers, **fault.headers})
            if asked.method != "HEAD" and not await self._send_body(stream, asked, body, part, fault):
                return False
        return fault.content_length is None

    async def _send_body(self, stream: trio.abc.Stream, asked: Asked, body: Body, part: range, fault: Fault) -> bool:
        """Send that part; give whether all of it went out."""
        for start, end in steps(len(part), fault):
            if fault.stall and start == fault.stall.after:
                fault.stall.reached.set()
                await fault.stall.released.wait()
            if start == fault.reset_after:
                make_close_a_reset(stream)
            if start in (fault.cut_after, fault.reset_after):
                return False
            if fault.drip and start:
                await trio.sleep(fault.drip[1])
            await self._pass_line(end - start)
            await stream.send_all(body.read(part.start + start, part.start + end))
            asked.sent_bytes += end - start
        return True

    async def _pass_line(self, length: int) -> None:
        if self.distance.bytes_per_s is not None:
            self._line_free_at = max(self._line_free_at, trio.current_time()) + length / self.distance.bytes_per_s
            await trio.sleep_until(self._line_free_at)


def _part(asked: str | None, size: int) -> range | None:
    """Read a Range header; None for the whole file, an empty range for what cannot be satisfied."""
    match = _RANGE.fullmatch(asked or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        return range(max(0, size - int(last)), size)
    return range(min(int(first), size), min(int(last) + 1, size) if last else size)


async def next_event(connection: h11.Connection, stream: trio.abc.Stream) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(bytes(await stream.receive_some(PIECE_BYTES)))
    return event


async def send_head(stream: trio.abc.Stream, status: int, headers: Mapping[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {headers[name]}" for name in headers)]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode("latin-1"))


def make_close_a_reset(stream: trio.abc.Stream) -> None:
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    assert isinstance(stream, trio.SocketStream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def serve(
    directory: Path,
    *,
    distance: Distance = NEAR,
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; to be started with ``nursery.start``, which gives the Server."""
    server = Server(directory, distance)
    listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    server.url = f"{'https' if ssl_context else 'http'}://127.0.0.1:{port}"
    async with trio.open_nursery() as nursery:
        doors = [trio.SSLListener(each, ssl_context) for each in listeners] if ssl_context else listeners
        await nursery.start(trio.serve_listeners, server.converse, doors)
        task_status.started(server)


async def _serve_as_process(directory: Path, distance: Distance) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, directory, distance=distance))
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.support.server", description="Serve a binary cache on loopback.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rtt-ms", type=float, default=0, help="wait so long before each answer")
    parser.add_argument("--mbit", type=float, help="bandwidth of all bodies together, in Mbit/s")
    given = parser.parse_args()
    distance = Distance(given.rtt_ms / 1000, given.mbit and given.mbit * 1e6 / 8)
    trio.run(_serve_as_process, given.directory, distance)


if __name__ == "__main__":
    main()
