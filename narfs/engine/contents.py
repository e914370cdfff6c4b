"""Contents: the bytes of one NAR whose index is known.

Where they come from, first match wins:

1. the cache (``read_nowait``, then ``read`` for what must be read from disk or checked first);
2. ranges of the blob, if it is direct or framed;
3. a whole pass into the cache, also if a range was not what it should be;
4. without a cache: the stream read again, checked against the index (``restream``).

An index that came head first is kept in the cache when all its pages are here. They are brought behind the first read:
0.016 % of the NAR. What is read before that is not kept.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from narfs.engine.ahead.following import Following
from narfs.engine.backoff import Backoff
from narfs.engine.fetcher import Fetcher
from narfs.engine.flights import Flight, take_off
from narfs.errors import CacheUnusable, Corrupt, FormatError, NarfsError, Unavailable
from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from narfs.cache.chunk_cache import CachedNar
    from narfs.engine.ahead.governor import Turn
    from narfs.engine.means import Described, Means
    from narfs.engine.pages import Pages
    from narfs.engine.ranges import Chunks, RangeRequest
    from narfs.formats.index import NarIndex
    from narfs.lake.binary_cache import BinaryCache


class Contents:
    """Of one NAR; replaced when a pass brings another index. ``begin_pass`` brings the whole NAR and returns then."""

    def __init__(
        self,
        means: Means,
        described: Described,
        index: NarIndex,
        cached: CachedNar | None,
        *,
        pages: Pages | None,
        begin_pass: Callable[[], Awaitable[None]],
    ) -> None:
        self.index = index
        self.cached = cached
        self._means = means
        self._domain = described.domain
        self._begin_pass = begin_pass
        self._pages = pages
        """None: all of the index is here."""
        self._fetcher = Fetcher(means, described, index)
        self._following = Following(means, index, self._fetcher)
        self._keeping: Flight[None] | None = None
        self._keeping_trouble = Backoff()

    def read_nowait(self, start: NarOffset, length: int) -> bytes | None:
        """Give ``length`` bytes if they are in memory and checked, else None. Not a checkpoint."""
        if self.cached is None:
            return None
        if not self._following.watches:
            return self.cached.read_nowait(start, length)
        if (data := self._fetcher.fresh(start, length)) is not None:
            self.cached.note_hit()
        elif (data := self.cached.read_nowait(start, length)) is None:
            return None
        self._following.saw(start, length, self.cached)
        return data

    async def read(self, start: NarOffset, length: int) -> bytes | None:
        """Give exactly ``length`` bytes; None: ask again, there was an eviction, or a pass, which has an index too."""
        cached, cache = await self._cached_again(), self._means.cache
        if cached is not None and (data := await cached.read(start, length)) is not None:
            if self._following.watches:
                self._following.saw(start, length, cached)
            return data
        ranges = self._fetcher.has_ranges and not self._fetcher.is_bad(start, length)
        whole = not ranges and cache is not None and cache.can_take(self.index.nar_size)
        if not whole and self._pages is not None:
            whole = not await (self._pages.bring(start, length) if ranges else self._pages.bring_all())
        if whole:
            try:
                await self._begin_pass()
            except (Corrupt, FormatError):
                if not self._fetcher.salvage(start, length):
                    raise
            return None
        flights = self._fetcher.ask(start, length, cached)
        self._following.saw(start, length, cached, missed=True)
        data = await self._fetcher.read(start, length, cached, flights)
        self._fetcher.note_read(start, length)  # what was on its way when it was seen
        if self._pages is not None:
            self.keep_soon()
        return data

    @property
    def lake(self) -> BinaryCache:
        """Where the bytes come from."""
        return self._fetcher.lake

    async def ready_for(self, span: NarSpan) -> bool:
        """Prepare to bring a span into the cache; False if parts of the NAR cannot be fetched by themselves.

        CacheUnusable; what keeps a page of the index away.
        """
        cached, cache = await self._cached_again(), self._means.cache
        if cache is None or not cache.has_room(span.length):
            raise CacheUnusable("there is no room for what is fetched ahead")
        if cached is None:
            self.keep_soon()
            if self._keeping is not None:
                await self._keeping.result()
            cached = self.cached
        if cached is None:
            raise CacheUnusable("there is no place to keep what is fetched ahead")
        return self._fetcher.has_ranges or next(cached.each_missing(span.start, span.length), None) is None

    async def missing_bytes(self) -> int:
        """Say how much is not in the cache."""
        if (cached := await self._cached_again()) is None:
            return self.index.nar_size
        return sum(self.index.grid.span(chunk).length for chunk in cached.missing(NarOffset(0), self.index.nar_size))

    async def look(self, start: NarOffset, length: int) -> bytes | None:
        """Give bytes that were brought, for narfs itself: no reader has read them. None if they are not to be had."""
        if self.cached is None or (flights := self._fetcher.on_their_way(start, length, self.cached)) is None:
            return None
        return await self._fetcher.read(start, length, self.cached, flights)

    def lacks(self, span: NarSpan) -> bool:
        """Say whether something of a span is not in the cache."""
        return self.cached is None or next(self.cached.each_missing(span.start, span.length), None) is not None

    def plan_ahead(self, span: NarSpan, most_bytes: int) -> RangeRequest | None:
        """Plan one request for the first of a span that is neither here nor on its way; None: there is nothing."""
        if self.cached is None or not self._fetcher.has_ranges:
            return None
        return self._fetcher.plan_ahead(span, self.cached, most_bytes)

    def take_off_ahead(self, request: RangeRequest, turn: Turn, *, read_soon: bool) -> Flight[Chunks]:
        """Fetch what was planned just now, in its turn. ``read_soon``: some program will read it when it is here."""
        assert self.cached is not None  # noqa: S101 - it was planned for it
        return self._fetcher.take_off_ahead(request, self.cached, turn, read_soon=read_soon)

    def behind(self, request: RangeRequest, span: NarSpan) -> NarSpan | None:
        """Give what of a span lies behind the chunks of a request."""
        end = self.index.grid.span(request.chunks[-1]).end
        return NarSpan(end, span.end) if end < span.end else None

    def keep_soon(self) -> None:
        """Keep the index without contents in the cache, if there is one: it is an fsync that nobody waits for."""
        idle = self._keeping is None or self._keeping.landed
        if self._means.cache is not None and idle and not self._keeping_trouble.resting:
            self._keeping = take_off(self._means.nursery, self._keep)

    async def _keep(self) -> None:
        if self._pages is not None:
            try:
                await self._pages.bring_quietly()
            except NarfsError as error:
                self._keeping_trouble.failed(error, for_ever=not isinstance(error, Unavailable))
                return
            self._pages = None
        if self._means.cache is None:
            return
        with suppress(CacheUnusable):
            cached = await self._means.cache.keep_index(
                self.index, self._domain, random_access=self._fetcher.has_ranges
            )
            if self.cached is None:
                self.cached = self._agreeing(cached)

    async def _cached_again(self) -> CachedNar | None:
        """Give what the cache has of this NAR; begin anew, with the index that is known, if it was evicted whole."""
        cache = self._means.cache
        if cache is None or self._pages is not None or (self.cached is not None and not self.cached.retired):
            return self.cached
        self.cached = self._agreeing(await cache.load(self.index.nar_hash, self._domain))
        if self.cached is None and self._fetcher.has_ranges:
            await self._keep()
        return self.cached

    def _agreeing(self, cached: CachedNar | None) -> CachedNar | None:
        """Pass over what has another index that could not be replaced: cut differently, or of a key that counts not."""
        if cached is None or cached.index.grid != self.index.grid or not self._means.trust.accepts_index(cached.index):
            return None
        return cached
