"""Reading a solid NAR without a cache: its stream is opened again, and what passes is checked chunk by chunk.

The last resort, for a cache disk that fails or a NAR larger than the budget. The stream stays open between reads, so a
program that reads forward costs one stream; one that jumps back behind the window costs a new one. Memory: the window
of 32 MiB, one piece, and the decoder's own.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from narfs.engine.ranges import check
from narfs.errors import Corrupt
from narfs.formats.compression import decoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from narfs.engine.means import Described
    from narfs.engine.ranges import Chunks
    from narfs.formats.index import NarIndex

_WINDOW_BYTES = 32 * 1024 * 1024
_IDLE_S = 30.0
"""How long a stream nobody reads stays open; it holds one of the lake's connections."""


class Restream:
    """The stream of one NAR and a window of its checked chunks. ``chunks`` calls do not overlap (they queue)."""

    def __init__(self, described: Described, index: NarIndex) -> None:
        self._described = described
        self._index = index
        self._window: OrderedDict[int, bytes] = OrderedDict()
        self._turn = trio.Lock()
        self._stack = AsyncExitStack()
        self._stream: AsyncIterator[Chunks] | None = None
        self._next = 0
        """The first chunk that the open stream has not given yet."""
        self._used_at = trio.current_time()

    async def chunks(self, wanted: range) -> Chunks:
        """Give the ``wanted`` chunks, checked."""
        async with self._turn:
            self._used_at = trio.current_time()
            found = {}
            for chunk in wanted:
                if chunk not in self._window:
                    await self._pass_to(chunk)
                found[chunk] = self._window[chunk]
            return found

    async def close_when_idle(self) -> None:
        """Return, with the stream closed, once nobody has read for a while; also closes when cancelled."""
        try:
            while (left := self._used_at + _IDLE_S - trio.current_time()) > 0:
                await trio.sleep(left)
        finally:
            with trio.CancelScope(shield=True, relative_deadline=_IDLE_S):
                async with self._turn:
                    await self._close()

    async def _pass_to(self, chunk: int) -> None:
        if self._stream is None or chunk < self._next:
            await self._close()
            self._stream = self._open()
        try:
            while self._next <= chunk:
                passed = await anext(self._stream, None)
                if passed is None:
                    raise Corrupt(f"the blob ends before chunk {chunk} of the NAR")
                self._keep(passed)
        except BaseException:
            with trio.CancelScope(shield=True, relative_deadline=1.0):
                await self._close()
            raise

    def _keep(self, passed: Chunks) -> None:
        for chunk, data in passed.items():
            self._window[chunk] = data
            self._next = chunk + 1
        while len(self._window) * self._index.grid.chunk_bytes > _WINDOW_BYTES:
            self._window.popitem(last=False)

    async def _open(self) -> AsyncIterator[Chunks]:
        blob = await self._stack.enter_async_context(self._described.lake.open_blob(self._described.narinfo))
        decode = decoder(self._described.narinfo.compression, nar_size=self._index.nar_size)
        collect = _Collector(self._index)
        async for data in blob:
            pieces = decode.feed(data)
            while (piece := await trio.to_thread.run_sync(next, pieces, None)) is not None:
                if chunks := await trio.to_thread.run_sync(collect.feed, piece):
                    yield chunks

    async def _close(self) -> None:
        self._stream = None
        self._next = 0
        await self._stack.aclose()
        self._stack = AsyncExitStack()


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
