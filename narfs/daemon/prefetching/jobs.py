"""Jobs: store paths that are brought into the cache whole, behind everybody who waits for something.

A job takes what the cache has room for without an eviction, path by path, and no more than its allowance. It ends with
whom it was begun for; what it brought stays.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from narfs.engine.ahead.bringing import Allowance, Want, bring
from narfs.engine.ahead.quietly import quietly
from narfs.errors import NarfsError, NotFound
from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from narfs.cache.chunk_cache import ChunkCache
    from narfs.engine.accessor import NarAccessor

    Start = Callable[[Callable[[], Awaitable[None]]], None]
    """Starts a job where it ends with whom it is for."""

_REMEMBERED: Final = 64
"""Jobs that can be asked for; the oldest is forgotten."""

Stopped = Literal["allowance", "quota", "cache", "failures", "gone"]


@dataclass(frozen=True, slots=True)
class JobFacts:
    """How far a job is. Bytes are those of blobs, as they are fetched; what was here already is in neither."""

    id: int
    paths: int
    wanted_bytes: int
    """About."""
    fetched_bytes: int
    requests: int
    failed: int
    """Requests that failed."""
    done: bool
    stopped_by: Stopped | None
    """Why it is done and not everything is here."""
    trouble: str | None
    """What the last request failed with."""


class Job:
    """One of them."""

    def __init__(self, number: int, cache: ChunkCache, accessors: Sequence[NarAccessor], allowance: Allowance) -> None:
        self.number = number
        self._cache = cache
        self._accessors = list({accessor.key: accessor for accessor in accessors}.values())
        self._allowance = allowance
        self._wanted_bytes = sum(accessor.pass_bytes for accessor in self._accessors)
        self._requests = self._failed = 0
        self._done = False
        self._stopped_by: Stopped | None = "gone"
        self._trouble: str | None = None

    def facts(self) -> JobFacts:
        """Say how far it is."""
        return JobFacts(
            id=self.number,
            paths=len(self._accessors),
            wanted_bytes=self._wanted_bytes,
            fetched_bytes=self._allowance.spent_bytes,
            requests=self._requests,
            failed=self._failed,
            done=self._done,
            stopped_by=self._stopped_by if self._done else None,
            trouble=self._trouble,
        )

    async def run(self) -> None:
        """Bring everything there is room for."""
        try:
            wants, all_fit = await self._plan()
            brought = await bring(wants, self._allowance)
            self._requests, self._failed = brought.requests, brought.failed
            self._trouble = None if brought.trouble is None else str(brought.trouble)
            self._stopped_by = brought.stopped_by or (None if all_fit else "cache")
        except Exception as error:
            self._stopped_by, self._trouble = "failures", f"a bug in narfs: {error!r}"
            raise
        finally:
            self._done = True

    async def _plan(self) -> tuple[list[Want], bool]:
        """Say what is missing and fits; whether that is all."""
        wants: list[Want] = []
        self._wanted_bytes, room = 0, self._cache.room_bytes()
        all_fit = True
        for accessor in self._accessors:
            try:
                missing = await accessor.missing_bytes()
            except NarfsError:
                missing = accessor.nar_size  # it will be told as a failure
            if not missing:
                continue
            self._wanted_bytes += accessor.pass_bytes * missing // accessor.nar_size
            if missing > room:
                all_fit = False
                continue
            room -= missing
            wants.append(Want(accessor, NarSpan(NarOffset(0), NarOffset(accessor.nar_size))))
        return wants, all_fit


class Jobs:
    """Of one process."""

    def __init__(self, cache: ChunkCache) -> None:
        self._cache = cache
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self._begun = 0

    def begin(self, accessors: Sequence[NarAccessor], most_bytes: int | None, start: Start) -> JobFacts:
        """Begin one; Closing if whom it is for has just gone. No bug in it is anybody's trouble but its own."""
        self._begun += 1
        job = Job(self._begun, self._cache, accessors, Allowance(most_bytes))
        start(partial(quietly, job.run))
        self._jobs[job.number] = job
        while len(self._jobs) > _REMEMBERED:
            self._jobs.popitem(last=False)
        return job.facts()

    def facts(self, number: int) -> JobFacts:
        """Say how far one is; NotFound."""
        try:
            return self._jobs[number].facts()
        except KeyError:
            raise NotFound(f"there is no prefetch {number}; it may be long over") from None
