"""HttpTransport: a lake behind HTTP."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from narfs.errors import Corrupt, NotFound, TooSlow, Unavailable, UsageError
from narfs.lake.body import PieceReader, ResumableBody
from narfs.lake.content_encoding import ACCEPTED, decode
from narfs.lake.exchange import Exchange, translated
from narfs.lake.pieces import PIECE_BYTES
from narfs.lake.response import FOREIGN
from narfs.lake.several import for_each
from narfs.lake.transport import CACHE_INFO, FROM_THE_START, ExactChunks, content_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
    from typing import TypeVar

    from narfs.lake.client import LakeClient
    from narfs.lake.settings import LakeSettings
    from narfs.lake.store_url import StoreUrl
    from narfs.lake.transport import TransportStatistics
    from narfs.offsets import BlobOffset

    T = TypeVar("T")

_log = logging.getLogger(__name__)

_WORTH_A_THREAD_BYTES = 64 * 1024
"""Encoded bytes from which decoding (≥ 0.2 ms) is not done in the event loop."""


class HttpTransport:
    """One lake over ``client``, which may be shared and is the caller's to close."""

    def __init__(self, client: LakeClient, url: StoreUrl, settings: LakeSettings) -> None:
        self._exchange = Exchange(client, url, settings)
        self._short = trio.Semaphore(settings.short_requests, max_value=settings.short_requests)
        self._long = trio.Semaphore(settings.long_bodies, max_value=settings.long_bodies)
        self._deadline_s = settings.small_object_deadline_s

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        """Read a small object whole, without its Content-Encoding."""

        async def once() -> bytes:
            async with self._exchange.answer("GET", name, headers={"Accept-Encoding": ACCEPTED}) as answer:
                if answer.status != 200:
                    raise Unavailable(f"{self._exchange.url_of(name)}: answered {answer.status} where 200 is due")
                data = await answer.read_up_to(max_bytes)
                encoding = answer.headers.get("content-encoding", "")
            self._exchange.counters.received_bytes += len(data)
            return await self._decoded(name, encoding, data, max_bytes)

        data = await self._shortly(name, lambda: self._exchange.repeat(name, once))
        if name == CACHE_INFO:
            self._exchange.admitted = True
        return data

    @asynccontextmanager
    async def stream(self, name: str, *, start: BlobOffset = FROM_THE_START) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an object as stored, from byte ``start``."""
        async with self._long:
            _log.debug("stream started: %s from byte %d", name, start)
            body = ResumableBody(self._exchange, name, start=start)
            try:
                await body.open()
                yield PieceReader(body)
            finally:
                await body.aclose()
                _log.debug("stream closed: %s", name)

    async def read_range(self, name: str, start: BlobOffset, length: int) -> bytes:
        """Read exactly ``length`` bytes from byte ``start`` of an object as stored."""
        if length <= 0:
            return b""
        return await self._joined(name, ResumableBody(self._exchange, name, start=start, end=start + length))

    async def read_beginning(self, name: str, length: int) -> bytes:
        """Read the first ``length`` bytes of an object as stored, or all of it."""
        return await self._joined(name, ResumableBody(self._exchange, name, start=0, end=length, may_end_before=True))

    async def _joined(self, name: str, body: ResumableBody) -> bytes:
        async def read() -> bytes:
            try:
                return b"".join([chunk async for chunk in body])
            finally:
                await body.aclose()

        return await self._shortly(name, read)

    async def put(self, name: str, chunks: AsyncIterable[bytes], size: int) -> None:
        """Write an object; a body of more than 1 MiB is sent as it is read."""
        headers = {"Content-Length": str(size), "Content-Type": content_type(name)}
        url = self._exchange.url_of(name)

        async def once(content: bytes | AsyncIterable[bytes]) -> None:
            async with self._exchange.answer("PUT", name, headers=headers, content=content) as answer:
                await answer.read_up_to(PIECE_BYTES)

        async def anew() -> None:
            async with aclosing(ExactChunks(chunks, size, what=url)) as upload:
                await once(upload)

        async with self._long:
            try:
                if size <= PIECE_BYTES:
                    async with aclosing(ExactChunks(chunks, size, what=url)) as upload:
                        data = b"".join([chunk async for chunk in upload])
                    await self._exchange.repeat(name, lambda: once(data))
                elif isinstance(chunks, AsyncIterator):
                    await anew()
                else:
                    await self._exchange.repeat(name, anew)
            except NotFound as error:
                raise Unavailable(f"{url}: the server has no place for it; does it take uploads?") from error
            except FOREIGN as error:
                raise translated(error, url) from error
        self._exchange.counters.sent_bytes += size

    async def put_small(self, objects: Mapping[str, bytes]) -> None:
        """Write small objects at the same time."""

        async def put(name: str) -> None:
            await self.put(name, _Whole(objects[name]), len(objects[name]))

        await for_each(objects, put, at_once=len(objects))

    async def exists(self, name: str) -> bool:
        """Whether the object is there."""

        async def once() -> bool:
            try:
                async with self._exchange.answer("HEAD", name, headers={"Accept-Encoding": "identity"}):
                    return True
            except NotFound:
                return False

        return await self._shortly(name, lambda: self._exchange.repeat(name, once))

    async def names(self, ending: str) -> list[str]:
        """Refuse: HTTP has no way to list what is there."""
        await trio.lowlevel.checkpoint()
        raise UsageError(f"{self._exchange.url_of('')}: cannot list its *{ending}: name the paths, or use --closure")

    async def aclose(self) -> None:
        """Do nothing: the connections are the client's."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> TransportStatistics:
        """Tell what was done so far."""
        in_flight = sum((bound.max_value or 0) - bound.value for bound in (self._short, self._long))
        return self._exchange.counters.snapshot(in_flight=in_flight)

    async def _shortly(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do ``work`` as one of the bounded number of short requests, within its deadline."""
        async with self._short:
            _log.debug("request started: %s", name)
            with trio.move_on_after(self._deadline_s):
                result = await work()
                _log.debug("request complete: %s", name)
                return result
            raise TooSlow(f"{self._exchange.url_of(name)}: not complete after {self._deadline_s:g} s")

    async def _decoded(self, name: str, encoding: str, data: bytes, max_bytes: int) -> bytes:
        url = self._exchange.url_of(name)
        if len(data) > max_bytes:
            raise Corrupt(f"{url}: is longer than {max_bytes} bytes")
        if not encoding:
            return data
        if len(data) < _WORTH_A_THREAD_BYTES:
            return decode(encoding, data, max_bytes=max_bytes, what=url)
        return await trio.to_thread.run_sync(lambda: decode(encoding, data, max_bytes=max_bytes, what=url))


class _Whole:
    """An upload of bytes that are at hand, for any number of attempts."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data
