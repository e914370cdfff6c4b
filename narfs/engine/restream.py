"""Reading a solid NAR without a cache: its stream is opened again, and what passes is checked chunk by chunk.

The last resort, for a cache disk that fails or a NAR larger than the budget. The stream stays open between reads, so a
program that reads forward costs one stream; one that jumps back behind the window costs a new one. Memory: the window
of 32 MiB, one piece, and the decoder's own.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import aclosing
from typing import TYPE_CHECKING

import trio

from narfs.engine.flights import told
from narfs.engine.ranges import check
from narfs.errors import Corrupt, NarfsError, OverQuota, again
from narfs.formats.compression import decoder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from narfs.engine.means import Described
    from narfs.engine.ranges import Chunks
    from narfs.formats.index import NarIndex

_WINDOW_BYTES = 32 * 1024 * 1024
_IDLE_S = 30.0
"""How long a stream nobody reads stays open; it holds one of the lake's connections."""


class _Request:
    """Chunks that somebody waits for."""

    def __init__(self, wanted: range) -> None:
        self.wanted = wanted
        self.found: Chunks = {}
        self.error: NarfsError | None = None
        self.answered = trio.Event()


class Restream:
    """The stream of one NAR and a window of its checked chunks. One task ``run``s it, any number ask for chunks."""

    def __init__(self, described: Described, index: NarIndex) -> None:
        self.described = described
        self._index = index
        self._window: OrderedDict[int, bytes] = OrderedDict()
        self._asking, self._asked = trio.open_memory_channel[_Request](0)

    async def chunks(self, wanted: range) -> Chunks:
        """Give the ``wanted`` chunks, checked; trio.BrokenResourceError when the stream was just closed as idle."""
        request = _Request(wanted)
        await self._asking.send(request)
        await request.answered.wait()
        if request.error is not None:
            raise again(request.error) from request.error
        return request.found

    async def run(self) -> None:
        """Answer until nobody has asked for a while."""
        with self._asked:
            request = await self._next_request()
            while request is not None:
                request = await self._run_stream(request)

    async def _run_stream(self, request: _Request | None) -> _Request | None:
        """Open the stream and answer what lies ahead of it or in the window; give the first request that does not."""
        passed = 0
        try:
            async with (
                self.described.lake.open_blob(self.described.narinfo) as blob,
                aclosing(self._checked(blob)) as passing,
            ):
                while request is not None:
                    for chunk in request.wanted:
                        while chunk >= passed:
                            chunks = await anext(passing)
                            self._keep(chunks)
                            passed = max(chunks) + 1
                        if chunk not in self._window:
                            return request
                        request.found[chunk] = self._window[chunk]
                    request.answered.set()
                    request = await self._next_request()
        except StopAsyncIteration:
            error: NarfsError = Corrupt("the blob is shorter than when it was verified")
        except Exception as caught:  # noqa: BLE001 - told there
            error = told(caught)
        else:
            return None
        assert request is not None  # noqa: S101 - the stream only moves for a request
        request.error = error
        request.answered.set()
        if isinstance(error, OverQuota):  # of who began this: the next stream is somebody else's
            return None
        return await self._next_request()

    async def _next_request(self) -> _Request | None:
        with trio.move_on_after(_IDLE_S):
            return await self._asked.receive()
        return None

    def _keep(self, chunks: Chunks) -> None:
        self._window.update(chunks)
        while len(self._window) * self._index.grid.chunk_bytes > _WINDOW_BYTES:
            self._window.popitem(last=False)

    async def _checked(self, blob: AsyncIterator[bytes]) -> AsyncGenerator[Chunks, None]:
        decode = decoder(self.described.narinfo.compression, nar_size=self._index.nar_size)
        collect = _Collector(self._index)
        async for data in blob:
            pieces = decode.feed(data)
            while (piece := await trio.to_thread.run_sync(next, pieces, None)) is not None:
                if chunks := await trio.to_thread.run_sync(collect.feed, piece):
                    yield chunks


class _Collector:
    """Cuts the passing NAR into checked chunks."""

    def __init__(self, index: NarIndex) -> None:
        self._index = index
        self._pending = bytearray()
        self._chunk = 0

    def feed(self, piece: bytes) -> Chunks:
        self._pending += piece
        return dict(self._complete())

    def _complete(self) -> Iterator[tuple[int, bytes]]:
        while self._chunk < self._index.grid.count:
            length = self._index.grid.span(self._chunk).length
            if len(self._pending) < length:
                return
            data = bytes(self._pending[:length])
            check(self._index, self._chunk, data)
            yield self._chunk, data
            del self._pending[:length]
            self._chunk += 1
