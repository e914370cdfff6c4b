"""Upstreams: several lakes, asked one after the other by priority.

Rule 1: lakes are asked in the order of Priority, then of the command line; the next only if those before did not give a
narinfo that is accepted.
Rule 2: absent is answered only when every lake said so, and is then remembered for ``negative_ttl_s``.
Rule 3: a lake in trouble does not hide the others. If none of them has the path, the trouble is the answer.
Rule 4: an ``?optional=1`` lake in trouble counts as absent and rests for ``optional_rest_s``, or until it answers; an
absence found meanwhile is not believed for longer than that rest.
Rule 5: a lake that is down (``outage``) is in trouble at once, and rests until it answers.
"""

from __future__ import annotations

import logging
import math
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
from lru import LRU

from narfs.errors import Corrupt, NarfsError, NotFound, Unavailable, Untrusted, UsageError
from narfs.lake.binary_cache import BinaryCache
from narfs.lake.client import make_client
from narfs.lake.file import FileTransport
from narfs.lake.http import HttpTransport
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import S3_NEEDS, StoreUrl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from narfs.formats.narinfo import NarInfo
    from narfs.lake.client import LakeClient
    from narfs.lake.transport import Transport, TransportStatistics

_log = logging.getLogger(__name__)

_REMEMBERED_ABSENCES = 65_536
"""About 10 MB: a hash part, a time and their place in the LRU."""

_INTRODUCTION_PATIENCE_S = 2.0
"""How long a lookup waits for lakes to tell their priority; below the 5 s that a root lookup of an open View has."""


@dataclass(frozen=True, slots=True)
class UpstreamsStatistics:
    """What several lakes were asked; each lake's own counts by its URL."""

    lookups_total: int
    remembered_absences_total: int
    """Lookups that were answered without asking any lake."""
    resting: tuple[str, ...]
    lakes: tuple[tuple[str, TransportStatistics], ...]


@dataclass(slots=True)
class _Rest:
    """Whether one lake is left alone for a while, and why."""

    since: float = -math.inf
    until: float = -math.inf
    trouble: Unavailable | None = None


@dataclass(slots=True)
class _Search:
    """What one lookup has met so far."""

    believed_until: float
    refusals: list[str] = field(default_factory=list)
    troubles: list[NarfsError] = field(default_factory=list)


class Upstreams:
    """The lakes of one process, which stay the caller's to close."""

    def __init__(
        self,
        lakes: Iterable[BinaryCache],
        negative_ttl_s: float = 60.0,
        clock: Callable[[], float] = trio.current_time,
        *,
        optional_rest_s: float = 60.0,
    ) -> None:
        self.lakes = tuple(lakes)
        self._negative_ttl_s = negative_ttl_s
        self._optional_rest_s = optional_rest_s
        self._clock = clock
        self._rests = {lake: _Rest() for lake in self.lakes}
        self._absent_until: LRU[str, float] = LRU(_REMEMBERED_ABSENCES)
        self._introduced = False
        self._lookups = 0
        self._remembered_absences = 0

    async def narinfo(
        self, hash_part: str, accept: Callable[[BinaryCache, NarInfo], bool]
    ) -> tuple[BinaryCache, NarInfo]:
        """Find the first narinfo that ``accept`` takes.

        NotFound if every lake said that it has none; Untrusted if some have one but none was accepted; otherwise what
        the lakes in trouble raised. Equal lookups at the same time are asked separately: the engine lets them share.
        """
        self._lookups += 1
        if self.absent_for(hash_part) > 0:
            self._remembered_absences += 1
            raise NotFound(f"{hash_part}: is in none of {self}")
        await self._introduce_for_a_moment()
        search = _Search(believed_until=self._clock() + self._negative_ttl_s)
        for lake in sorted(self.lakes, key=lambda lake: lake.priority):
            narinfo = await self._look(lake, hash_part, search)
            if narinfo is None:
                continue
            if accept(lake, narinfo):
                return lake, narinfo
            search.refusals.append(f"{lake.url} has it, but no trusted key signed it")
        if search.troubles:
            raise _summary(search.troubles) from search.troubles[0]
        if search.refusals:
            raise Untrusted(f"{hash_part}: {'; '.join(search.refusals)}")
        self._absent_until[hash_part] = search.believed_until
        raise NotFound(f"{hash_part}: is in none of {self}")

    async def introduce(self) -> None:
        """Let all lakes tell their priority at once. UsageError if one is for another store directory.

        A lake in trouble is no error here. The first lookup does the same where it has to know, for a moment.
        """
        await self._meet(self.lakes)

    async def _meet(self, lakes: Iterable[BinaryCache]) -> None:
        refused: list[UsageError] = []

        async def meet(lake: BinaryCache) -> None:
            try:
                await lake.info()
            except Unavailable as error:
                _log.debug("%s", error)
            except UsageError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for lake in lakes:
                nursery.start_soon(meet, lake)
        if refused:
            raise refused[0]

    def absent_for(self, hash_part: str) -> float:
        """Give the seconds for which the last NotFound for ``hash_part`` may be relied on; 0: not at all."""
        return max(0.0, self._absent_until.get(hash_part, -math.inf) - self._clock())

    def statistics(self) -> UpstreamsStatistics:
        """Tell what was done so far."""
        now = self._clock()
        return UpstreamsStatistics(
            lookups_total=self._lookups,
            remembered_absences_total=self._remembered_absences,
            resting=tuple(str(lake.url) for lake in self.lakes if lake.outage.trouble or self._rests_at(lake, now)),
            lakes=tuple((str(lake.url), lake.statistics()) for lake in self.lakes),
        )

    def __str__(self) -> str:
        return ", ".join(str(lake.url) for lake in self.lakes)

    async def _introduce_for_a_moment(self) -> None:
        """Only until it was done once: a lake that told nothing then tells when its turn comes to be asked."""
        if not self._introduced and len(self.lakes) > 1:
            with trio.move_on_after(_INTRODUCTION_PATIENCE_S):
                await self._meet(lake for lake in self.lakes if not lake.knows_priority)
            self._introduced = True

    async def _look(self, lake: BinaryCache, hash_part: str, search: _Search) -> NarInfo | None:
        """Ask one lake; put down in ``search`` why it gave nothing."""
        try:
            return await self._ask(lake, hash_part)
        except NotFound:
            pass
        except Untrusted as error:
            search.refusals.append(str(error))
        except (Unavailable, Corrupt) as error:
            if lake.url.optional:
                search.believed_until = min(search.believed_until, self._rests[lake].until)
            else:
                search.troubles.append(error)
        return None

    async def _ask(self, lake: BinaryCache, hash_part: str) -> NarInfo:
        rest = self._rests[lake]
        begun = self._clock()
        if rest.trouble is not None and self._rests_at(lake, begun):
            raise type(rest.trouble)(str(rest.trouble)) from rest.trouble
        try:
            narinfo = await lake.narinfo(hash_part)
        except NotFound:
            self._recovered(lake)
            raise
        except Unavailable as error:
            if lake.url.optional:
                self._rest(lake, error, max(self._optional_rest_s, self._clock() - begun))
            raise
        self._recovered(lake)
        return narinfo

    def _rests_at(self, lake: BinaryCache, now: float) -> bool:
        rest = self._rests[lake]
        return rest.until > now and lake.outage.ended_at < rest.since

    def _rest(self, lake: BinaryCache, trouble: Unavailable, rest_s: float) -> None:
        rest = self._rests[lake]
        if rest.trouble is None:
            _log.warning("%s; counts as absent for %.0f s, or until it answers", trouble, rest_s)
        rest.since, rest.trouble = self._clock(), trouble
        rest.until = rest.since + rest_s

    def _recovered(self, lake: BinaryCache) -> None:
        rest = self._rests[lake]
        if rest.trouble is not None:
            _log.info("%s: answers again", lake.url)
            rest.until, rest.trouble = -math.inf, None


def _summary(troubles: Sequence[NarfsError]) -> NarfsError:
    kinds = {type(trouble) for trouble in troubles}
    kind = kinds.pop() if len(kinds) == 1 else Unavailable
    return kind("; ".join(str(trouble) for trouble in troubles))


@asynccontextmanager
async def open_lakes(
    urls: Iterable[str],
    settings: LakeSettings | None = None,
    domains: Sequence[bytes] = (),
    *,
    patient: bool = False,
) -> AsyncIterator[Upstreams]:
    """Open the lakes at ``urls`` without asking them anything yet; UsageError if one of them makes no sense.

    ``domains`` are theirs, one by one; without any all lakes are in the common one. ``patient``: nobody waits for an
    answer but long work, of which each request makes all its attempts, also while the lake is known to be down.
    """
    settings = settings or LakeSettings()
    store_urls = [StoreUrl.parse(url) for url in urls]
    tls = any(url.scheme == "https" for url in store_urls)
    failure: Exception | None = None
    async with make_client(settings, tls=tls, environ=os.environ) as client, trio.open_nursery() as nursery:
        watching, patience_s = None if patient else nursery, settings.stall_deadline_s
        lakes = [
            BinaryCache(url, _transport(url, settings, client), domain, nursery=watching, patience_s=patience_s)
            for url, domain in zip(store_urls, domains or [b""] * len(store_urls), strict=True)
        ]
        try:
            yield Upstreams(lakes, settings.negative_ttl_s, optional_rest_s=settings.optional_rest_s)
        except Exception as error:  # noqa: BLE001 - raised below: the nursery is no business of the caller's
            failure = error
        finally:
            for lake in lakes:
                await lake.aclose()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _transport(url: StoreUrl, settings: LakeSettings, client: LakeClient) -> Transport:
    if url.is_file:
        return FileTransport(url, settings)
    if not url.is_s3:
        return HttpTransport(client, url, settings)
    try:
        from narfs.lake.s3 import S3Transport  # noqa: PLC0415 - obstore is an extra: not everybody has it
    except ModuleNotFoundError as error:
        raise UsageError(f"{url}: {S3_NEEDS}") from error
    return S3Transport(url, settings, os.environ)
