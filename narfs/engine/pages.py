"""Pages: those of a sealed index that did not come with its head.

A page is fetched by one flight, whoever needs it, and compared with its signed digest before anything in it is used.
One that is wrong twice ends this: the NAR then passes as a whole. One that cannot be fetched fails the read, and is
asked for again after a rest: where it lies the NAR lies, too, and that is a thousand times as long. Only what an index
store does not give stops no read.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from narfs.engine.backoff import Backoff
from narfs.engine.flights import Flight, take_off
from narfs.errors import Corrupt, NarfsError, OverQuota, Unavailable
from narfs.offsets import runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.engine.means import Means
    from narfs.engine.sealed import Sealed

_log = logging.getLogger(__name__)

_REQUEST_MAX_BYTES: Final = 8 * 1024 * 1024
"""Held in memory until its pages are checked."""


class Pages:
    """The pages of one index."""

    def __init__(self, means: Means, sealed: Sealed) -> None:
        self._means = means
        self._paged, self._place = sealed
        self._flights: dict[int, Flight[None]] = {}
        self._trouble = Backoff()
        self._wrong = False
        start, end = self._paged.head.page_span(0)
        self._request_pages = max(1, _REQUEST_MAX_BYTES // (end - start))

    @property
    def complete(self) -> bool:
        """Whether all are here."""
        return not self._paged.unfilled

    async def bring(self, start: int, length: int) -> bool:
        """See to it that the pages which a span of the NAR needs are here; False if they are not to be had.

        Unavailable while their lake is in trouble.
        """
        return await self._bring(self._paged.missing(start, length))

    async def bring_all(self) -> bool:
        """See to it that all are here."""
        return await self._bring(self._paged.unfilled)

    async def bring_quietly(self) -> None:
        """Do that for nobody who waits: raises what keeps a page away, which is only told to whoever needs it."""
        while pages := self._paged.unfilled[: self._request_pages]:
            await self._fetch(pages)

    async def _bring(self, missing: Sequence[int]) -> bool:
        if not missing:
            return True
        if self._wrong or self._place.in_store:
            if self._trouble.resting:
                return False
        else:
            self._trouble.require()
        try:
            await self._fetch(missing)
        except OverQuota:
            raise
        except NarfsError as error:
            self._failed(error)
            if isinstance(error, Unavailable) and not self._place.in_store:
                raise
            return False
        return True

    async def _fetch(self, pages: Sequence[int]) -> None:
        for run in runs((page for page in pages if page not in self._flights), self._request_pages):
            self._flights |= dict.fromkeys(run, take_off(self._means.nursery, partial(self._fly, run)))
        for flight in dict.fromkeys(self._flights[page] for page in pages):
            await flight.result()

    async def _fly(self, run: range) -> None:
        try:
            (start, _), (_, end) = map(self._paged.head.page_span, (run[0], run[-1]))
            ask = partial(self._place.lake.read_index, self._place.name, start, end - start)
            try:
                await trio.to_thread.run_sync(self._fill, run, start, await ask())
            except Corrupt:  # on its way, perhaps
                await trio.to_thread.run_sync(self._fill, run, start, await ask())
            self._means.counters.index_pages_fetched += len(run)
        finally:
            for page in run:
                del self._flights[page]

    def _fill(self, run: range, origin: int, data: bytes) -> None:
        for page in run:
            start, end = self._paged.head.page_span(page)
            self._paged.fill(page, memoryview(data)[start - origin : end - origin])

    def _failed(self, error: NarfsError) -> None:
        if self._trouble.resting:  # another reader has met it too
            return
        self._wrong = not isinstance(error, Unavailable)
        self._means.counters.indexes_refused += self._wrong
        if self._wrong or self._place.in_store:
            path = self._paged.head.narinfo.path.base_name
            _log.warning("%s: %s: %s; the whole NAR is read instead", path, self._place.lake.url, error)
        self._trouble.failed(error, for_ever=self._wrong)
