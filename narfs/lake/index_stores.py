"""IndexStores: lakes that are asked for the sealed indexes of paths that other lakes have.

Rule 1: a mount with index stores is not worse than one without by more than a small request a path and store.
Rule 2: so what is absent from a store is believed for ``negative_ttl_s``, like the absence of a narinfo.
Rule 3: and a store that fails, or is silent for PATIENCE_S, rests: 60 s, after each further failure twice as long,
600 s at most. Who asks it meanwhile is answered at once. It is logged when that begins and when it is over.
Rule 4: a store from which bytes came meanwhile is slow, and does not rest; the path that waited goes without.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio
from lru import LRU

from narfs.errors import NarfsError, NotFound, OverQuota, TooSlow, Unavailable
from narfs.formats.seal import index_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from narfs.formats.store_path import StorePath
    from narfs.lake.binary_cache import BinaryCache
    from narfs.lake.transport import TransportStatistics

_log = logging.getLogger(__name__)

PATIENCE_S: Final = 4.0
"""Below the 5 s that a root lookup of an open View has. A megabyte of index in that time is 2 Mbit/s."""
_FIRST_REST_S: Final = 60.0
_LONGEST_REST_S: Final = 600.0
_AT_ONCE: Final = 32
"""As many short requests as a transport has under way."""
_REMEMBERED_ABSENCES: Final = 65_536


@dataclass(frozen=True, slots=True)
class IndexStoresStatistics:
    """What the index stores were asked; each one's own counts by its URL."""

    remembered_absences_total: int
    """Questions that were answered without asking."""
    resting: tuple[str, ...]
    lakes: tuple[tuple[str, TransportStatistics], ...]


@dataclass(slots=True)
class _Rest:
    """Until when one store is left alone, and why."""

    since: float = -math.inf
    until: float = -math.inf
    length_s: float = _FIRST_REST_S
    trouble: NarfsError | None = None


class IndexStores:
    """The index stores of one process, in the order in which they are to be asked; the caller's to close."""

    def __init__(
        self,
        lakes: Sequence[BinaryCache] = (),
        negative_ttl_s: float = 60.0,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.lakes = tuple(lakes)
        self._negative_ttl_s = negative_ttl_s
        self._clock = clock
        self._rests = {lake: _Rest() for lake in self.lakes}
        self._turns = {lake: trio.CapacityLimiter(_AT_ONCE) for lake in self.lakes}
        self._absent_until: LRU[tuple[BinaryCache, str], float] = LRU(_REMEMBERED_ABSENCES)
        self._remembered_absences = 0

    async def beginning(self, lake: BinaryCache, path: StorePath, length: int) -> bytes:
        """Give the first ``length`` bytes of the index that one of ``lakes`` has of ``path``, or all of it.

        NotFound: it has none. Unavailable: it cannot be asked now, which is not the caller's to tell.
        """
        async with self._turns[lake]:  # who waits for his turn has not met a silent store
            return await self._ask(lake, path, length)

    def statistics(self) -> IndexStoresStatistics:
        """Tell what was done so far."""
        return IndexStoresStatistics(
            remembered_absences_total=self._remembered_absences,
            resting=tuple(str(lake.url) for lake in self.lakes if self._rests_now(lake)),
            lakes=tuple((str(lake.url), lake.statistics()) for lake in self.lakes),
        )

    async def _ask(self, lake: BinaryCache, path: StorePath, length: int) -> bytes:
        rest = self._rests[lake]
        if self._rests_now(lake):
            raise Unavailable(f"{lake.url}: rests, because: {rest.trouble}")
        if self._absent_until.get((lake, path.hash_part), -math.inf) > self._clock():
            self._remembered_absences += 1
            raise NotFound(f"{path.base_name}: {lake.url} has no index of it")
        received = lake.statistics().received_bytes_total
        try:
            with trio.fail_after(PATIENCE_S):
                await lake.info()
                data = await lake.index_beginning(index_name(path), length)
        except NotFound:
            self._recovered(lake)
            self._absent_until[lake, path.hash_part] = self._clock() + self._negative_ttl_s
            raise
        except trio.TooSlowError as error:
            trouble = TooSlow(f"{lake.url}: gave no index within {PATIENCE_S:g} s")
            if lake.statistics().received_bytes_total > received:
                _log.warning("%s; %s is read without one", trouble, path.base_name)
            else:
                self._failed(lake, trouble)
            raise trouble from error
        except OverQuota:
            raise
        except NarfsError as error:
            self._failed(lake, error)
            raise Unavailable(str(error)) from error
        self._recovered(lake)
        return data

    def _rests_now(self, lake: BinaryCache) -> bool:
        rest = self._rests[lake]
        return rest.until > self._clock() and lake.outage.ended_at < rest.since

    def _failed(self, lake: BinaryCache, trouble: NarfsError) -> None:
        rest = self._rests[lake]
        if self._rests_now(lake):
            return  # somebody who asked at the same time has met it too
        if rest.trouble is None:
            _log.warning("%s; paths are read without indexes from there", trouble)
        else:
            rest.length_s = min(2 * rest.length_s, _LONGEST_REST_S)
        rest.since, rest.trouble = self._clock(), trouble
        rest.until = rest.since + rest.length_s

    def _recovered(self, lake: BinaryCache) -> None:
        if self._rests[lake].trouble is not None:
            _log.info("%s: answers again", lake.url)
            self._rests[lake] = _Rest()
