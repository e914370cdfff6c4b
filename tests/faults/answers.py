"""One answer of nginx's, and what is done to it on its way."""

from __future__ import annotations

import gzip
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import h11
import trio

from tests.faults.kinds import Kind
from tests.support.server import make_close_a_reset, next_event, send_head

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from tests.faults.kinds import Order

_DRIP_S = 0.2
_PASSED_ON = ("range", "if-range", "accept-encoding", "user-agent")
_TOLD = ("content-length", "content-type", "etag", "last-modified", "accept-ranges", "content-range", "location")
_BOMB = gzip.compress(bytes(1 << 24)) * 64


class Broken(Exception):  # noqa: N818 - it is no error, it is what was ordered
    """The connection is to end here."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as it is passed on. ``range``: first byte and last."""

    method: str
    path: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, request: h11.Request) -> Asked:
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        kept = {name: headers[name] for name in _PASSED_ON if name in headers}
        return cls(request.method.decode(), request.target.decode("latin-1").partition("?")[0], kept)

    @property
    def range(self) -> tuple[int, int] | None:
        first, _, last = self.headers.get("range", "").removeprefix("bytes=").partition("-")
        return (int(first), int(last)) if first and last else None

    def without(self, *names: str) -> Asked:
        return replace(self, headers={name: value for name, value in self.headers.items() if name not in names})


class Answer:
    """What nginx answers, on a connection of its own."""

    def __init__(self, port: int, asked: Asked) -> None:
        self._port, self._asked = port, asked
        self._connection = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        self._stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        headers = {"Host": "lake", "Connection": "close", **self._asked.headers}
        request = h11.Request(method=self._asked.method, target=self._asked.path, headers=[*headers.items()])
        ask = (self._connection.send(request) or b"") + (self._connection.send(h11.EndOfMessage()) or b"")
        await self._stream.send_all(ask)
        head = await next_event(self._connection, self._stream)
        assert isinstance(head, h11.Response)
        self.status = head.status_code
        self.told = {name.decode(): value.decode("latin-1") for name, value in head.headers if name.decode() in _TOLD}
        self.length = int(self.told.get("content-length", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self._stream)

    async def body(self) -> AsyncGenerator[bytes, None]:
        while isinstance(event := await next_event(self._connection, self._stream), h11.Data):
            yield bytes(event.data)


def make_up(
    kind: Kind, asked: Asked, chance: random.Random, trap_port: int
) -> tuple[int, dict[str, str], bytes] | None:
    """Give status, headers and body of an answer that the lake has no part in."""
    nothing = {"Content-Length": "0"}
    match kind:
        case Kind.STATUS:
            return chance.choice((500, 502, 503, 504)), nothing, b""
        case Kind.BUSY:
            return 429, {**nothing, "Retry-After": "1"}, b""
        case Kind.LOOP:
            return 302, {**nothing, "Location": f"{asked.path}?{chance.randrange(100)}"}, b""
        case Kind.OFF:
            return 302, {**nothing, "Location": f"http://127.0.0.1:{trap_port}{asked.path}"}, b""
        case Kind.BOMB:
            return 200, {"Content-Length": str(len(_BOMB)), "Content-Encoding": "gzip"}, _BOMB
    return None


class Meddling:
    """One order, carried out on every answer that it befalls until it has ``ended``."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.left = order.times
        self.ended = trio.Event()

    def can_befall(self, asked: Asked, lake: Path) -> bool:
        """Whether there is anything to be wrong with in this request."""
        match self.order.kind:
            case Kind.OLD:
                return (lake / "old" / asked.path[1:]).is_file()
            case Kind.SWAP:
                return bool(_others(asked, lake))
            case Kind.IGNORED_RANGE | Kind.LYING_RANGE:
                return asked.range is not None
        return True

    def question(self, asked: Asked, lake: Path, chance: random.Random) -> Asked:
        """Say what nginx is asked instead."""
        match self.order.kind:
            case Kind.OLD:
                return replace(asked.without("if-range"), path=f"/old{asked.path}")
            case Kind.SWAP:
                return replace(asked.without("if-range"), path=chance.choice(_others(asked, lake)))
            case Kind.IGNORED_RANGE:
                return asked.without("range", "if-range")
            case Kind.LYING_RANGE if asked.range is not None and asked.range[0] > 1:
                first, last = asked.range
                moved = f"bytes={first // 2}-{first // 2 + last - first}"
                return replace(asked, headers={**asked.headers, "range": moved})
        return asked

    async def pass_on(self, answer: Answer, asked: Asked, stream: trio.abc.Stream, chance: random.Random) -> None:
        """Send what is wrong of it; Broken if the connection ends."""
        kind = self.order.kind
        at = chance.randrange(max(1, answer.length)) if self.order.at is None else self.order.at
        if kind is Kind.RESET and self.order.at is None and chance.random() < 0.5:
            make_close_a_reset(stream)
            raise Broken
        told, length = self._head(answer, asked, chance), 0
        await send_head(stream, answer.status, told)
        async with aclosing(answer.body()) as body:
            async for data in body:
                if kind in (Kind.RESET, Kind.STALL, Kind.DRIP, Kind.CUT) and length + len(data) > at:
                    await stream.send_all(data[: at - length])
                    await self._stop(stream, data[at - length :])
                if kind is Kind.FLIP and length <= at < length + len(data):
                    flipped = bytearray(data)
                    flipped[at - length] ^= 1 << chance.randrange(8)
                    await stream.send_all(flipped)
                else:
                    await stream.send_all(data)
                length += len(data)
        if length < int(told["content-length"]):
            raise Broken

    def _head(self, answer: Answer, asked: Asked, chance: random.Random) -> dict[str, str]:
        told = answer.told
        if self.order.kind is Kind.LENGTH:
            return {**told, "content-length": str(chance.choice((answer.length // 2, answer.length + 1000)))}
        if self.order.kind is Kind.LYING_RANGE and asked.range is not None and "content-range" in told:
            (first, last), size = asked.range, int(told["content-range"].rpartition("/")[2])
            lie = f"{first}-{last}/{size}" if first > 1 else f"{first + 64}-{last + 64}/{size + 64}"
            return {**told, "content-range": f"bytes {lie}"}
        return told

    async def _stop(self, stream: trio.abc.Stream, rest: bytes) -> None:
        """Send no more of the body, or hardly any of it."""
        kind = self.order.kind
        if kind is Kind.DRIP:
            for at in range(len(rest)):
                await stream.send_all(rest[at : at + 1])
                with trio.move_on_after(_DRIP_S):
                    await self.ended.wait()
                    break
        if kind is Kind.STALL:
            await self.ended.wait()
        if kind is not Kind.CUT:
            make_close_a_reset(stream)
        raise Broken


def _others(asked: Asked, lake: Path) -> list[str]:
    """Name the objects that lie beside the one that was asked for and end alike."""
    there = lake / asked.path[1:]
    if not there.suffix:
        return []
    folder = asked.path.rpartition("/")[0]
    return sorted(f"{folder}/{each.name}" for each in there.parent.glob(f"*{there.suffix}") if each.name != there.name)
