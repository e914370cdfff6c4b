"""ResumableBody: bytes ``start`` to ``end`` of one object, over as many answers as it takes.

Rule 1: ``position`` is the offset of the next byte to give. An answer may begin before it (the server ignored the
Range, and the bytes before are dropped), never after it.
Rule 2: every answer must be of the version that the first one was of, by ETag and size as far as they are known.
Otherwise the body fails with Unavailable: bytes of two versions are never joined, and asking anew reads the new one.
Rule 3: a failure after REFRESHING_BYTES of progress is the first again. So a stream of any length survives any number
of cuts, and a server that gives one byte a connection does not keep us for ever.
Rule 4: an answer that does not keep up (``pace``) while it is waited for is as good as silent.
Rule 5: the end is where the object ends, or where an answer ends that does not say how large the object is. An answer
that ends before that counts as a broken connection.

A Content-Encoding other than identity is refused: it was not asked for, and its offsets are not offsets in the object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from narfs.errors import Corrupt, NotFound, Unavailable
from narfs.lake.answer import ObjectVersion, place_body
from narfs.lake.pace import SLOWEST_BYTES_PER_S, Pace
from narfs.lake.pieces import Pieces
from narfs.lake.response import FOREIGN, BrokenError, StalledError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from narfs.lake.exchange import Exchange
    from narfs.lake.response import Response

REFRESHING_BYTES = 1024 * 1024


class ResumableBody:
    """An async iterator of chunks as the network gives them. One task reads it; ``aclose`` when done."""

    def __init__(
        self, exchange: Exchange, name: str, *, start: int, end: int | None = None, may_end_before: bool = False
    ) -> None:
        self._exchange = exchange
        self._name = name
        self._position = start
        self._end = end
        self._may_end_before = may_end_before
        self._version: ObjectVersion | None = None
        self._answer: Response | None = None
        self._at = start
        """Offset of the next byte that the answer gives."""
        self._attempt = 1
        self._refreshed_at = start
        self._pace = Pace(exchange.stall_deadline_s)

    async def open(self) -> None:
        """Get the first answer: NotFound if the object is absent."""
        while self._answer is None:
            try:
                await self._connect()
            except FOREIGN as error:
                await self._recover(error)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._answer is None:
                if self._end is not None and self._position >= self._end:
                    raise StopAsyncIteration
                await self.open()
                continue
            try:
                begun = trio.current_time()
                chunk = await self._answer.next_chunk()
                if chunk is None:
                    await self._end_answer()
                    continue
                if not self._pace.keeps_up(trio.current_time() - begun, len(chunk)):
                    raise StalledError(f"less than {SLOWEST_BYTES_PER_S} bytes a second came")
            except FOREIGN as error:
                await self._recover(error)
                continue
            self._exchange.counters.received_bytes += len(chunk)
            if wanted := self._cut(chunk):
                return wanted
            if self._position == self._end:
                await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connection."""
        answer, self._answer = self._answer, None
        if answer is not None:
            await answer.aclose()

    def _cut(self, chunk: bytes) -> bytes:
        """Leave out of ``chunk`` what lies before the position or behind the end."""
        at = self._at
        self._at += len(chunk)
        end = self._at if self._end is None else min(self._at, self._end)
        if end <= self._position:
            return b""
        wanted = chunk[self._position - at : end - at]
        self._position = end
        return wanted

    async def _connect(self) -> None:
        asked = self._position
        try:
            answer = await self._exchange.ask("GET", self._name, headers=self._headers())
        except NotFound as error:
            if self._version is None:
                raise
            raise Unavailable(f"{self._url}: vanished while it was read") from error
        try:
            self._begin(answer, asked)
        except BaseException:
            await answer.aclose()
            raise
        self._answer = answer

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self._position > 0 or self._end is not None:
            headers["Range"] = f"bytes={self._position}-{'' if self._end is None else self._end - 1}"
            if self._version is not None and self._version.if_range is not None:
                headers["If-Range"] = self._version.if_range
        return headers

    def _begin(self, answer: Response, asked: int) -> None:
        encoding = answer.headers.get("content-encoding", "").strip().lower()
        if answer.status in (200, 206) and encoding not in ("", "identity"):
            raise Unavailable(
                f"{self._url}: came with Content-Encoding {encoding!r} although identity was asked for: "
                "the server must send NARs as they are stored"
            )
        span = place_body(answer.status, answer.headers, asked=asked, what=self._url)
        if self._version is not None and self._version.contradicts(span.version):
            raise Unavailable(f"{self._url}: changed while it was read: ask again")
        self._version = span.version if self._version is None else self._version.joined(span.version)
        size = self._version.size
        if self._may_end_before and self._end is not None and size is not None:
            self._end = min(self._end, size)
        if size is not None and size < (self._end or asked):
            raise Corrupt(f"{self._url}: byte {self._end or asked} was asked for, but it has {size} bytes")
        if self._end is None:
            self._end = size if size is not None else span.end
        if span.start == 0 < asked:
            self._exchange.counters.ranges_ignored += 1
        self._at = span.start
        self._pace = Pace(self._exchange.stall_deadline_s)

    async def _end_answer(self) -> None:
        await self.aclose()
        size_is_known = self._version is not None and self._version.size is not None
        if self._end is None or (self._may_end_before and not size_is_known):
            self._end = self._position
        elif self._position < self._end:
            raise BrokenError("the body ended before its last byte")

    async def _recover(self, error: Exception) -> None:
        await self.aclose()
        if self._position - self._refreshed_at >= REFRESHING_BYTES:
            self._refreshed_at, self._attempt = self._position, 1
        await self._exchange.recover(self._name, error, attempt=self._attempt)
        self._attempt += 1
        if self._version is not None:
            self._exchange.counters.resumes += 1

    @property
    def _url(self) -> str:
        return self._exchange.url_of(self._name)


class PieceReader:
    """The chunks of a body, joined into pieces of up to 1 MiB."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._pieces = Pieces()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while (piece := self._pieces.pop()) is None:
            chunk = await anext(self._body, None)
            if chunk is None:
                if (piece := self._pieces.pop(last=True)) is None:
                    raise StopAsyncIteration
                break
            self._pieces.push(chunk)
        return piece
