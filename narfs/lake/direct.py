"""DirectClient: GET and HEAD straight over links, with h11 for heads and the socket for bodies.

A body with a Content-Length, which nearly every one has, comes from the socket to its reader without passing through
anything; h11 frames the others (chunked, or until the connection ends). httpx would hand each 64 KiB through eight
generators, and spend 1 ms on a request before its first byte (``benchmarks/http_client.py``).

Rule 1: a link carries one exchange at a time. It is kept for the next only if the body was read to its end, nothing
came behind it and the server means to go on.
Rule 2: a kept link is used only while it is silent and younger than KEEP_ALIVE_S.
Rule 3: nothing is asked twice here; a kept link that breaks is a broken connection like any other. What else is kept of
its origin is closed: what broke it (a changed network, a balancer that forgot) broke them too, one for each attempt.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11
import trio

from narfs.lake.link import RECEIVE_BYTES, Origin
from narfs.lake.response import BrokenError, ImpossibleError, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from narfs.lake.link import Link

KEEP_ALIVE_S = 55.0
"""Below the 60 s after which common servers close, so that a request seldom meets a connection that is just closing."""

_MAX_HEAD_BYTES = 100 * 1024
_HEAD_RECEIVE_BYTES = 16 * 1024
"""What comes along with the head is copied twice more than what comes later."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN_URL = re.compile(r"[\w.~:/?@!$&'()*+,;=%\[\]-]+", re.ASCII)


class DirectClient:
    """Asks any origin; keeps up to ``max_kept`` silent links for later."""

    def __init__(self, dial: Callable[[Origin], Awaitable[Link]], *, max_kept: int) -> None:
        self._dial = dial
        self._max_kept = max_kept
        self._kept: list[tuple[float, Link]] = []
        """Since when, and what; the latest last."""

    async def ask(self, method: str, url: str, headers: Mapping[str, str]) -> Response:
        """Ask, without a body, and give the answer, its body unread."""
        if _PLAIN_URL.fullmatch(url) is None:
            url = _escaped(url)
        split = urlsplit(url)
        origin = Origin(split.hostname or "", split.port or _DEFAULT_PORTS[split.scheme], split.scheme == "https")
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        host = split.netloc.rpartition("@")[2]
        with _speaking():
            # An ETag comes back in If-Range as the bytes that it came in.
            told = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            question = h11.Request(method=method, target=target, headers=[(b"Host", host.encode("ascii")), *told])
        kept = self._take(origin)
        link = kept or await self._dial(origin)
        try:
            return await self._exchange(link, question)
        except BaseException as error:
            link.close()
            if kept is not None and isinstance(error, Exception):  # not if we were cancelled
                self._drop(origin)
            raise

    def close(self) -> None:
        """Hang up all that is kept."""
        while self._kept:
            self._kept.pop()[1].close()

    async def _exchange(self, link: Link, question: h11.Request) -> Response:
        framing = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        left = _MAX_HEAD_BYTES
        with _speaking():
            await link.send((framing.send(question) or b"") + (framing.send(h11.EndOfMessage()) or b""))
            while not isinstance(event := framing.next_event(), h11.Response):  # 1xx before it mean nothing to us
                if event is h11.NEED_DATA:
                    data = await link.receive(_HEAD_RECEIVE_BYTES)
                    if not data:
                        raise BrokenError("the server hung up without an answer")
                    left -= len(data)
                    if left < 0:
                        raise BrokenError(f"no answer in the first {_MAX_HEAD_BYTES} bytes")
                    framing.receive_data(data)
        return _DirectResponse(event, framing, link, self._keep, bodiless=question.method == b"HEAD")

    def _take(self, origin: Origin) -> Link | None:
        """Find the latest kept link to there that can be used."""
        expired = trio.current_time() - KEEP_ALIVE_S
        while self._kept and self._kept[0][0] <= expired:
            self._kept.pop(0)[1].close()
        for kept in [kept for kept in reversed(self._kept) if kept[1].origin == origin]:
            self._kept.remove(kept)
            if not kept[1].is_stale():
                return kept[1]
            kept[1].close()
        return None

    def _drop(self, origin: Origin) -> None:
        for _, link in self._kept:
            if link.origin == origin:
                link.close()
        self._kept = [kept for kept in self._kept if kept[1].origin != origin]

    def _keep(self, link: Link) -> None:
        self._kept.append((trio.current_time(), link))
        if len(self._kept) > self._max_kept:
            self._kept.pop(0)[1].close()


class _DirectResponse(Response):
    """The answer on one link, which is handed to ``keep`` if it can be used again."""

    def __init__(
        self, head: h11.Response, framing: h11.Connection, link: Link, keep: Callable[[Link], None], *, bodiless: bool
    ) -> None:
        headers: dict[str, str] = {}
        for name, value in head.headers:
            key, text = name.decode("ascii"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        super().__init__(head.status_code, headers)
        self._framing = framing
        self._link: Link | None = link
        self._keep = keep
        self._left = _body_bytes(head.status_code, headers, bodiless=bodiless)
        self._begun = b"" if self._left is None else framing.trailing_data[0]
        self._last = head.http_version < b"1.1" or "close" in headers.get("connection", "").lower()

    async def next_chunk(self) -> bytes | None:
        """Give the next bytes of the body; they are a checkpoint unless they came with the head."""
        if self._link is None or self._left == 0:
            return None
        if self._left is None:
            return await self._next_framed(self._link)
        chunk, self._begun = self._begun[: self._left], self._begun[self._left :]
        chunk = chunk or await self._link.receive(min(self._left, RECEIVE_BYTES))
        if not chunk:
            raise BrokenError("the connection ended before the body")
        self._left -= len(chunk)
        return chunk

    async def aclose(self) -> None:
        """Let go; no checkpoint."""
        link, self._link = self._link, None
        if link is None:
            return
        if self._left is None:
            reusable = self._framing.their_state is h11.DONE and not self._framing.trailing_data[0]
        else:
            reusable = not (self._left or self._begun or self._last)
        if reusable:
            self._keep(link)
        else:
            link.close()

    async def _next_framed(self, link: Link) -> bytes | None:
        with _speaking():
            while self._framing.their_state is h11.SEND_BODY:
                event = self._framing.next_event()
                if event is h11.NEED_DATA:
                    self._framing.receive_data(await link.receive(RECEIVE_BYTES))
                elif isinstance(event, h11.Data):
                    return bytes(event.data)
        return None


def _escaped(url: str) -> str:
    """Escape what a redirect may hold, which may be anything; ImpossibleError on control characters."""
    from narfs.lake.through import escaped  # noqa: PLC0415 - 65 ms for httpx, which is not needed by any plain URL

    return escaped(url)


def _body_bytes(status: int, headers: Mapping[str, str], *, bodiless: bool) -> int | None:
    """Say how long the body is; None if h11 has to find its end."""
    if bodiless or status in (204, 304):
        return 0
    if "transfer-encoding" in headers or "content-length" not in headers:
        return None
    return int(headers["content-length"])


@contextmanager
def _speaking() -> Iterator[None]:
    """Say what h11 raises in our words."""
    try:
        yield
    except h11.LocalProtocolError as error:
        raise ImpossibleError(str(error)) from error
    except h11.RemoteProtocolError as error:
        raise BrokenError(str(error)) from error
