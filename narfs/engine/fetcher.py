"""Fetching chunks of one NAR whose index is known, when the cache does not have them.

A chunk is fetched by one flight, whoever wants it. What a flight brings is checked, handed to its waiters, and offered
to the cache (``keeping``).

What is fetched ahead of readers (``ahead``) flies the same way, with a Turn; who comes to wait for it is given it like
anything else.

The second miss in a file of up to 8 MiB of a sealed blob brings the rest of it, in requests of 1 MiB at the same time:
programs touch their files here and there, and each touch would be a round trip. The second only: with a cache that
takes nothing, each miss would bring the whole file.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import trio

from narfs.engine.elsewhere import from_anywhere
from narfs.engine.flights import Flight, take_off
from narfs.engine.keeping import Keeping
from narfs.engine.ranges import REQUEST_MAX_BYTES, Chunks, RangeRequest, has_ranges, plan, rest_of_file, unpack
from narfs.engine.restream import Restream
from narfs.errors import Corrupt, FormatError, Unavailable
from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from narfs.cache.chunk_cache import CachedNar
    from narfs.engine.ahead.governor import Turn
    from narfs.engine.means import Described, Means
    from narfs.formats.index import NarIndex
    from narfs.lake.binary_cache import BinaryCache

_log = logging.getLogger(__name__)

_AHEAD_BYTES = 1024 * 1024
"""NAR in one request that nobody waits for yet: who comes to wait waits for all of it."""

_MOST_UNREAD = 4096
"""Chunks of one NAR, 100 bytes each: of a NAR that is brought and never read there would be one for each chunk."""

Flights = list[Flight[Chunks]]


class Fetcher:
    """The chunks of one NAR, from its lake."""

    def __init__(self, means: Means, described: Described, index: NarIndex) -> None:
        self._means = means
        self._described = described
        self._index = index
        self._flights: dict[int, Flight[Chunks]] = {}
        self._misses: Counter[int] = Counter()
        """Of files, by their first chunks."""
        self._restream: Restream | None = None
        self.has_ranges = has_ranges(index, described.narinfo)
        """Whether parts of the blob can be fetched by themselves; no longer once a lake sent a wrong one, or only
        another lake, with another blob, answers: the NAR then passes as a whole."""
        self._bad: set[int] | None = None
        """Chunks that are bad in a blob that is bad as a whole; the others are fetched one by one."""
        self._keeping = Keeping(means)
        self.unread: dict[int, None] = {}
        """Chunks that were fetched ahead and nobody has read yet, the latest ones in their order."""

    @property
    def lake(self) -> BinaryCache:
        """Where the NAR comes from."""
        return self._described.lake

    @property
    def blob_bytes(self) -> int:
        """Size of the blob."""
        return self._described.narinfo.file_size or self._index.nar_size

    def ask(self, start: NarOffset, length: int, cached: CachedNar | None) -> Flights:
        """Have ``length`` bytes from ``start`` fetched, unless ``cached`` has them or they are on their way."""
        missing = self._index.grid.covering(start, length) if cached is None else cached.missing(start, length)
        if fresh := [chunk for chunk in missing if chunk not in self._flights]:
            self._take_off(fresh, cached)
            self._take_off_rest(fresh[0], cached)
        return [*dict.fromkeys(self._flights[chunk] for chunk in missing)]

    def on_their_way(self, start: NarOffset, length: int, cached: CachedNar) -> Flights | None:
        """Give the flights that bring what ``cached`` has not of a span; None if some of it does not come."""
        missing = cached.missing(start, length)
        flights = [flight for chunk in missing if (flight := self._flights.get(chunk)) is not None]
        return [*dict.fromkeys(flights)] if len(flights) == len(missing) else None

    async def read(self, start: NarOffset, length: int, cached: CachedNar | None, flights: Flights) -> bytes | None:
        """Give ``length`` bytes from ``start`` that were just asked for; what is fetched goes to ``cached``.

        None: something was evicted from the cache before it could be read, or ``has_ranges`` has changed; ask again.
        """
        found: Chunks = {}
        for flight in flights:
            found |= await flight.result()
        parts = []
        for chunk in self._index.grid.covering(start, length):
            span = self._index.grid.span(chunk)
            first, last = max(start, span.start), min(start + length, span.end)
            if chunk in found:
                part: bytes | None = found[chunk][first - span.start : last - span.start]
            else:
                part = None if cached is None else await cached.read(NarOffset(first), last - first)
            if part is None:
                return None
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fresh(self, start: NarOffset, length: int) -> bytes | None:
        """Give bytes that came ahead a moment ago and are still in memory; else None. Not a checkpoint."""
        return self._means.fresh.read(self, self._index.grid, start, length)

    @property
    def awaits_readers(self) -> bool:
        """Whether something was fetched ahead that ``note_read`` should hear of."""
        return bool(self.unread) or self._means.fresh.holds(self)

    def note_read(self, start: NarOffset, length: int) -> None:
        """Count what was fetched ahead and is read now; what is read to its end need not be in memory any longer."""
        for chunk in self._index.grid.covering(start, length):
            span = self._index.grid.span(chunk)
            if chunk in self.unread:
                del self.unread[chunk]
                self._means.counters.ahead_used_bytes += span.length
            if span.end <= start + length:
                self._means.fresh.drop(self, chunk)

    # In a blob that is bad.

    def is_bad(self, start: NarOffset, length: int) -> bool:
        """Whether something there is known to be bad."""
        return self._bad is not None and not self._bad.isdisjoint(self._index.grid.covering(start, length))

    def salvage(self, start: NarOffset, length: int) -> bool:
        """Go on by parts after a pass of all of it was not what was signed; False if that helps nobody who reads there.

        Another version of the blob, with other parts, would have passed; so most of this one may be good.
        """
        if not has_ranges(self._index, self._described.narinfo):
            return False
        self.has_ranges = True
        self._bad = self._bad or set()
        return not self.is_bad(start, length)

    # Ahead of readers.

    def absent(self, span: NarSpan, cached: CachedNar) -> Iterator[int]:
        """Look for the chunks of a span that are not here, nor on their way; not across an await.

        None of a bad blob, and none that would not be kept: nothing is to be fetched ahead then.
        """
        if self._bad is not None or not self._keeping.works:
            return iter(())
        return (chunk for chunk in cached.each_missing(span.start, span.length) if chunk not in self._flights)

    def plan_ahead(self, span: NarSpan, cached: CachedNar, most_bytes: int) -> RangeRequest | None:
        """Plan one request for the first absent chunks of a span, of ``most_bytes`` of blob or so; None if it has none.

        Looks at no more than it plans, however long the span is.
        """
        most_nar_bytes = max(self._index.grid.chunk_bytes, most_bytes * self._index.nar_size // self.blob_bytes)
        first = [*islice(self.absent(span, cached), most_nar_bytes // self._index.grid.chunk_bytes)]
        if not first:
            return None
        return plan(self._index, self._described.narinfo, first, most_bytes=most_nar_bytes)[0]

    def take_off_ahead(
        self, request: RangeRequest, cached: CachedNar, turn: Turn, *, read_soon: bool = True
    ) -> Flight[Chunks]:
        """Fetch what was planned, in its turn. ``read_soon``: some program will read it as soon as it is here."""
        turn.takes(request.length)
        fresh = [chunk for chunk in request.chunks if chunk not in self._flights]
        return self._start(fresh, partial(self._fetch_ahead, request, turn, read_soon=read_soon), cached, turn)

    def _take_off(self, chunks: list[int], cached: CachedNar | None) -> None:
        if self.has_ranges:
            most_bytes = REQUEST_MAX_BYTES if self._bad is None else 1
            for request in plan(self._index, self._described.narinfo, chunks, most_bytes=most_bytes):
                fresh = [chunk for chunk in request.chunks if chunk not in self._flights]
                self._start(fresh, partial(self._fetch_range, request), cached)
        else:
            self._means.counters.uncached_reads += 1
            self._start(chunks, partial(self._fetch_stream, range(chunks[0], chunks[-1] + 1)), None)

    def _take_off_rest(self, chunk: int, cached: CachedNar | None) -> None:
        """Fetch the file that ``chunk`` is of, if something of it is missing for the second time."""
        if cached is None or not self.has_ranges:
            return
        grid = self._index.grid
        file = rest_of_file(grid, chunk)
        self._misses[file.start] += 1
        if self._misses[file.start] != 2:
            return
        start, end = grid.span(file.start).start, grid.span(file.stop - 1).end
        rest = [*self.absent(NarSpan(start, end), cached)]
        for request in plan(self._index, self._described.narinfo, rest, most_bytes=_AHEAD_BYTES):
            turn = self._means.governor.turn_nowait(self.lake, request.length)
            if turn is None:
                return
            self.take_off_ahead(request, cached, turn)

    def _start(
        self,
        chunks: list[int],
        work: Callable[[], Awaitable[Chunks]],
        cached: CachedNar | None,
        turn: Turn | None = None,
    ) -> Flight[Chunks]:
        async def fly() -> Chunks:
            keeping = False
            try:
                found = await work()
                if cached is not None and found and await self._keeping.finds_room(turn):
                    take_off(self._means.nursery, partial(self._keep, chunks, found, cached, turn))
                    keeping = True
            finally:
                if not keeping:
                    self._forget(chunks)
                    if turn is not None:
                        turn.end()
            return found

        flight = take_off(self._means.nursery, fly)
        self._flights.update(dict.fromkeys(chunks, flight))
        return flight

    async def _keep(self, chunks: list[int], found: Chunks, cached: CachedNar, turn: Turn | None) -> None:
        """Have what a flight found kept, and forget the flight."""
        try:
            await self._keeping.keep(found, cached, turn)
        finally:
            self._forget(chunks)

    def _forget(self, chunks: list[int]) -> None:
        for chunk in chunks:
            del self._flights[chunk]

    async def _fetch_ahead(self, request: RangeRequest, turn: Turn, *, read_soon: bool) -> Chunks:
        chunks = await self._fetch_range(request, turn)
        self.unread.update(dict.fromkeys(chunks))
        for chunk in [*islice(self.unread, max(0, len(self.unread) - _MOST_UNREAD))]:
            del self.unread[chunk]
        if read_soon:
            self._means.fresh.put(self, chunks, self._means.nursery)
        turn.holds(nbytes := sum(map(len, chunks.values())))
        self._means.counters.ahead_fetched_bytes += nbytes
        return chunks

    async def _fetch_range(self, request: RangeRequest, turn: Turn | None = None) -> Chunks:
        try:
            chunks = await from_anywhere(self._means, self._described, partial(self._fetch_from, request, turn))
        except (Corrupt, FormatError) as error:
            self._means.counters.corrupt += 1
            if self._bad is not None:
                if request.is_smallest:
                    self._bad.update(request.chunks)
                return {}
            if self.has_ranges:
                path = self._described.narinfo.path.base_name
                _log.warning("%s: a part of the blob: %s; the whole NAR is read instead", path, error)
            self.has_ranges = False
            return {}
        except Unavailable:
            if self.has_ranges:
                raise
            return {}
        self._means.counters.range_fetches += 1
        self._means.counters.range_fetched_nar_bytes += sum(map(len, chunks.values()))
        return chunks

    async def _fetch_from(self, request: RangeRequest, turn: Turn | None, described: Described) -> Chunks:
        """Fetch what was planned for one place of the NAR from this one, if its blob is of the same form."""
        narinfo = described.narinfo
        if narinfo.compression != self._described.narinfo.compression or not has_ranges(self._index, narinfo):
            self.has_ranges = False
            raise Unavailable(f"{described.lake.url}: has {narinfo.path.base_name} in another form")
        try:
            chunks = await self._ask(request, turn, described)
        except (Corrupt, FormatError) as error:
            if self._bad is not None:
                raise
            # On its way, perhaps. What stands in for a wrong part is the whole NAR, a thousand times as long.
            self._means.counters.corrupt += 1
            _log.debug("%s: a part of the blob, asked for once more: %s", narinfo.path.base_name, error)
            chunks = await self._ask(request, turn, described)
        self._described = described
        return chunks

    async def _ask(self, request: RangeRequest, turn: Turn | None, described: Described) -> Chunks:
        with self._means.governor.asking(described.lake, request.length, turn):
            data = await described.lake.read_blob(described.narinfo, request.start, request.length)
        return await unpack(self._index, request, data)

    async def _fetch_stream(self, chunks: range) -> Chunks:
        return await from_anywhere(self._means, self._described, partial(self._fetch_stream_from, chunks))

    async def _fetch_stream_from(self, chunks: range, described: Described) -> Chunks:
        while True:
            restream = self._restream
            if restream is None or restream.described != described:
                restream = self._restream = Restream(described, self._index)
                self._means.nursery.start_soon(self._run_restream, restream)
            try:
                found = await restream.chunks(chunks)
            except trio.BrokenResourceError:
                if self._restream is restream:
                    self._restream = None
            else:
                self._described = described
                return found

    async def _run_restream(self, restream: Restream) -> None:
        try:
            await restream.run()
        finally:
            if self._restream is restream:
                self._restream = None
