"""Link: one connection to a server, TCP with or without TLS, and dialling one.

Receiving is the hot path of every lake over HTTP. What has come is taken at once, up to RECEIVE_BYTES; only an empty
socket makes a deadline and waits. TLS is the standard library's over the socket itself: trio's SSLStream hands out one
record (16 KiB) for each turn of the scheduler, and takes twice the processor time (2.4 against 1.25 ms a MiB).
"""

from __future__ import annotations

import socket
import ssl
from functools import partial
from select import POLLIN, poll
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from narfs.lake.response import StalledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from narfs.lake.settings import LakeSettings

    _Ready = Callable[[socket.socket], Awaitable[None]]

RECEIVE_BYTES = 256 * 1024

_T = TypeVar("_T")


class Origin(NamedTuple):
    """Whom to connect to; ``secure``: with TLS."""

    host: str
    port: int
    secure: bool


class Link:
    """One connection: a socket that does not block, used by one task at a time.

    What goes wrong is an OSError or a StalledError. ``scratch`` is shared by all links of a client: nobody
    keeps anything in it across an await.
    """

    def __init__(self, origin: Origin, connected: socket.socket, scratch: memoryview, stall_deadline_s: float) -> None:
        self.origin = origin
        self._socket = connected
        self._scratch = scratch
        self._stall_deadline_s = stall_deadline_s

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            sent = await self.when_ready(partial(self._socket.send, data), trio.lowlevel.wait_writable)
            data = data[sent:]

    async def receive(self, max_bytes: int) -> bytes:
        """Give what has come, at most ``max_bytes``, waiting for the first byte; nothing at the end. A checkpoint."""
        await trio.lowlevel.checkpoint()
        filled = await self.when_ready(partial(self._fill, self._scratch[:max_bytes]))
        return bytes(self._scratch[:filled])

    def is_stale(self) -> bool:
        """Whether the other side has hung up, or said something that nobody asked for."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        watch = poll()
        watch.register(self._socket, POLLIN)
        return bool(watch.poll(0))

    def close(self) -> None:
        """Hang up, at once and without a word."""
        self._socket.close()

    async def when_ready(self, work: Callable[[], _T], until: _Ready = trio.lowlevel.wait_readable) -> _T:
        """Do ``work`` as soon as the socket lets it; ``until``: what it waits for, if TLS does not say otherwise."""
        while True:
            try:
                return work()
            except BlockingIOError:
                ready = until
            except ssl.SSLWantReadError:
                ready = trio.lowlevel.wait_readable
            except ssl.SSLWantWriteError:
                ready = trio.lowlevel.wait_writable
            try:
                with trio.fail_after(self._stall_deadline_s):
                    await ready(self._socket)
            except trio.TooSlowError:
                raise StalledError("nothing came within the deadline") from None

    def _fill(self, space: memoryview) -> int:
        """Receive until the space is full or nothing is there; TLS gives a record at a time."""
        filled = 0
        while filled < len(space):
            try:
                count = self._socket.recv_into(space[filled:])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not filled:
                    raise
                break
            if not count:
                break
            filled += count
        return filled


class Dialler:
    """Makes links with these deadlines; ``tls`` says whom to believe."""

    def __init__(self, settings: LakeSettings, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._scratch = memoryview(bytearray(RECEIVE_BYTES))

    async def dial(self, origin: Origin) -> Link:
        """Connect, and agree on keys if that is due."""
        try:
            with trio.fail_after(self._settings.connect_deadline_s):
                stream = await trio.open_tcp_stream(origin.host, origin.port)
                plain = socket.socket(fileno=stream.socket.detach())
                plain.setblocking(False)
                if not origin.secure:
                    return Link(origin, plain, self._scratch, self._settings.stall_deadline_s)
                return await self._secured(origin, plain)
        except trio.TooSlowError:
            raise StalledError("no connection within the deadline") from None

    async def _secured(self, origin: Origin, plain: socket.socket) -> Link:
        with plain:  # wrapping leaves it empty; until then it is ours to close
            wrapped = self._tls.wrap_socket(plain, server_hostname=origin.host, do_handshake_on_connect=False)
        link = Link(origin, wrapped, self._scratch, self._settings.stall_deadline_s)
        try:
            await link.when_ready(wrapped.do_handshake)
        except BaseException:
            link.close()
            raise
        return link
