"""Following: fetches ahead of readers that go forward in one NAR, and counts what of that was read.

It asks at once, and is paid by who read last: what he will read next is nearly what he waits for. How far it goes
follows from how fast the lake is (``pace``), so that one reader has all of the way to it and no more is held than that
takes.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Final

import trio

from narfs.engine.ahead.window import Streams
from narfs.errors import FormatError
from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from narfs.cache.chunk_cache import CachedNar
    from narfs.engine.ahead.window import Ahead
    from narfs.engine.fetcher import Fetcher
    from narfs.engine.means import Means
    from narfs.formats.index import NarIndex

_LIMIT_MIN_BYTES: Final = 2 * 1024 * 1024
"""Of NAR: in a window of less there would not be several requests that are worth their 0.5 ms of processor."""


class Following:
    """Of one NAR."""

    def __init__(self, means: Means, index: NarIndex, fetcher: Fetcher) -> None:
        self._means = means
        self._index = index
        self._fetcher = fetcher
        self._streams = Streams(index.nar_size, self._file_end)
        self._limit_bytes = _LIMIT_MIN_BYTES
        self._payer: Context | None = None

    @property
    def watches(self) -> bool:
        """Whether reads that found everything should be told, too."""
        return bool(self._streams) or self._fetcher.awaits_readers

    def saw(self, start: NarOffset, length: int, cached: CachedNar | None, *, missed: bool = False) -> None:
        """Take note of a read; ``missed``: something of it was not in the cache. Not a checkpoint."""
        if self._fetcher.awaits_readers:
            self._fetcher.note_read(start, length)
        if cached is None or not self._fetcher.has_ranges or not (missed or self._streams):
            return
        ahead = self._streams.read(
            start, start + length, now=trio.current_time(), limit_bytes=self._limit_bytes, missed=missed
        )
        if missed:
            self._payer = copy_context()
        if ahead is None:
            return
        if missed:
            ahead.stream.payer = self._payer
        self._fetch(ahead, cached)

    def _fetch(self, ahead: Ahead, cached: CachedNar) -> None:
        stream, span = ahead
        self._limit_bytes = self._limit()
        lake, governor = self._fetcher.lake, self._means.governor
        while span.length and (request := self._fetcher.plan_ahead(span, cached, governor.piece_bytes(lake))):
            turn = governor.turn_nowait(lake, request.length)
            if turn is None:
                stream.fetched = max(span.start, self._index.grid.span(request.chunks[0]).start)
                return
            # Who reads what is at hand tells nobody who he is; the one who missed something last is his like.
            payer = stream.payer or self._payer or copy_context()
            payer.run(self._fetcher.take_off_ahead, request, cached, turn)
            span = NarSpan(min(self._index.grid.span(request.chunks[-1]).end, span.end), span.end)
        stream.fetched = ahead.span.end

    def _limit(self) -> int:
        """Say how much of the NAR may be fetched ahead of one reader, as of now."""
        frames, blob_bytes = self._index.frames, self._fetcher.blob_bytes
        limit = self._means.governor.window_bytes(self._fetcher.lake) * self._index.nar_size // blob_bytes
        if frames is not None:  # of large ones the next must be on its way while one is read
            limit = max(limit, 2 * self._index.nar_size // len(frames.blob_bounds))
        return max(limit, _LIMIT_MIN_BYTES)

    def _file_end(self, offset: int) -> int:
        try:
            node = self._index.listing.file_at(offset)
        except FormatError:
            node = None
        return self._index.nar_size if node is None else node.nar_offset + node.size
