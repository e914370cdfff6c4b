"""Keeping: what flights of one NAR bring is offered to the cache, behind the backs of their waiters.

A cache that fails, or is slow for a moment, costs them nothing. Until its chunks are kept a flight has them. So that
memory is bounded, a flight that somebody waits for may wait a second for one of ``means.keeping``, and is not kept if
none comes free. One that nobody waits for has places of its own (``means.keeping_ahead``) and holds its Turn.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import trio

from narfs.errors import CacheUnusable

if TYPE_CHECKING:
    from narfs.cache.chunk_cache import CachedNar
    from narfs.engine.ahead.governor import Turn
    from narfs.engine.means import Means
    from narfs.engine.ranges import Chunks

_log = logging.getLogger(__name__)

_KEEPING_S = 10.0
"""Writing what one request brought, 8 MiB at most; what a cache disk is too slow for is fetched again."""

_ROOM_S = 1.0
"""How long waiters may wait for a cache that falls behind: below any deadline of theirs, and the disk catches up."""

_REST_S = 5.0
"""After what was not kept nothing is fetched ahead for so long. Not until a read: nobody may read what is pinned."""


class Keeping:
    """Of one NAR."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._failed_at = -math.inf

    @property
    def works(self) -> bool:
        """Whether the cache took what it was given last, or that was a while ago."""
        return trio.current_time() >= self._failed_at + _REST_S

    async def finds_room(self, turn: Turn | None) -> bool:
        """Wait until ``keep`` may be called; False if that takes too long."""
        if turn is not None:
            return True
        try:
            self._means.keeping.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_after(_ROOM_S) as waiting:
                await self._means.keeping.acquire()
            return not waiting.cancelled_caught
        return True

    async def keep(self, found: Chunks, cached: CachedNar, turn: Turn | None) -> None:
        """Offer what was found, and give back what was taken; also when the mount is just going away."""
        if turn is None:
            try:
                await self._offer(found, cached)
            finally:
                self._means.keeping.release()
        else:
            with turn:
                async with self._means.keeping_ahead:
                    await self._offer(found, cached)

    async def _offer(self, found: Chunks, cached: CachedNar) -> None:
        try:
            with trio.move_on_after(_KEEPING_S, shield=True):
                await cached.write_all(found)
            self._failed_at = -math.inf
        except CacheUnusable as error:
            self._failed_at = trio.current_time()
            _log.debug("chunks not kept: %s", error)
