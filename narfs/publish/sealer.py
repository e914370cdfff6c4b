"""Sealing lakes that exist: each NAR is streamed once and compared with its NarHash, then its index is signed.

A path that fails is told of at the end and stops nothing but what refers to it, if that is copied too. What is sealed
by the same key already is left alone, so a second run does what is missing.

Several machines may seal one lake together, each its shard. A copy needs the narinfos of its references first, and
another machine may have them still to write. So nothing waits for another shard while there is work::

    blob, .ls and index of a path are written; a reference is not there, and not this shard's    → it is *waiting*
    everything else is done                                                                      → ask again
    for ``patience_s`` nothing came of what is waited for                                        → report it, end

A later run, of any shard or of all, finds blob and index and writes the narinfo alone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import trio

from narfs.errors import NarfsError, Unavailable
from narfs.formats.cache_info import CacheInfo
from narfs.formats.compression import ZSTD_LEVEL
from narfs.lake.several import for_each
from narfs.publish.progress import Meter
from narfs.publish.references import references_first
from narfs.publish.seal_target import CopyLake, IndexLake, InPlace
from narfs.publish.sealing import frame_press
from narfs.publish.shard import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from narfs.engine.means import Described
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import SecretKey
    from narfs.formats.store_path import StorePath
    from narfs.lake.binary_cache import BinaryCache
    from narfs.publish.progress import Progress
    from narfs.publish.seal_target import SealTarget
    from narfs.publish.shard import Shard

Status = Literal["sealed", "present", "waiting", "failed"]

_ASK_AT_ONCE = 32
"""Small requests in flight; the transport has its own bound, this one is on tasks."""
_NARS_AT_ONCE = max(8, os.cpu_count() or 1)
"""More than processors: 300 small NARs 20 ms away took 4.0 s, and 7.3 s two at once. Eight of 125 MB took 232 MB."""
_PATIENCE_S = 60.0
_QUESTIONS = 12
"""How often it is asked within that time."""


@dataclass(frozen=True, slots=True)
class SealedPath:
    """One path of the report; ``error`` says what failed, or what it waits for."""

    path: str
    """In full, or only its hash where no narinfo could be read."""
    status: Status
    nar_size: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SealReport:
    """What came of the paths of one run, references first."""

    paths: tuple[SealedPath, ...]

    @property
    def summary(self) -> dict[Status, int]:
        """Count paths by status."""
        return {status: sum(one.status == status for one in self.paths) for status in get_args(Status)}

    @property
    def complete(self) -> bool:
        """Whether there is nothing to come back for."""
        return all(one.status in {"sealed", "present"} for one in self.paths)


async def seal_lake(
    members: Sequence[Described],
    key: SecretKey,
    *,
    to: BinaryCache | None = None,
    index_to: BinaryCache | None = None,
    shard: Shard = WHOLE,
    patience_s: float = _PATIENCE_S,
    progress: Callable[[Progress], None] = lambda _: None,
) -> SealReport:
    """Seal paths of ``shard`` whose narinfos are trusted: in place, into ``to``, or only indexes into ``index_to``."""
    if (written := to or index_to) and not await written.has_info():
        await written.put_info(CacheInfo(want_mass_query=True))
    with frame_press(ZSTD_LEVEL) as press:
        target: SealTarget = InPlace(key)
        if to is not None:
            target = CopyLake(to, key, press)
        elif index_to is not None:
            target = IndexLake(index_to, key)
        sealer = _Sealer(members, target, to, shard)
        meter = await sealer.run(progress)
        await sealer.settle(patience_s, meter.subject("what other shards bring"))
    return sealer.report()


class _Sealer:
    """What is common to all paths of one run; ``to`` is the lake where references must be, if any must."""

    def __init__(self, members: Sequence[Described], target: SealTarget, to: BinaryCache | None, shard: Shard) -> None:
        self._members = {member.narinfo.path: member for member in members}
        self._order = references_first({path: member.narinfo.references for path, member in self._members.items()})
        self._target = target
        self._to = to
        self._shard = shard
        self._done: dict[StorePath, SealedPath] = {}
        self._ended = {path: trio.Event() for path in self._order}
        self._awaited: dict[StorePath, StorePath] = {}
        """By each path that waits, one reference that is not there yet."""
        self._arrived: set[StorePath] = set()
        """References outside of this run that the lake has."""

    def report(self) -> SealReport:
        """Tell what came of each path."""
        return SealReport(tuple(self._done[path] for path in self._order))

    async def run(self, progress: Callable[[Progress], None]) -> Meter:
        """Find out what is missing, and do it; give what has counted it."""
        await for_each(self._order, self._look, at_once=_ASK_AT_ONCE)
        missing = [path for path in self._order if path not in self._done]
        total_bytes = sum(self._members[path].narinfo.nar_size for path in missing)
        meter = Meter(progress, total_bytes, passes=self._target.passes)

        async def seal(path: StorePath) -> None:
            await self._seal(path, meter.subject(path.name))

        # What a path waits for was begun before it, so it is never behind it in the queue: there is no deadlock.
        await for_each(missing, seal, at_once=_NARS_AT_ONCE)
        return meter

    async def settle(self, patience_s: float, advance: Callable[[int], None]) -> None:
        """Come back to what waits for other shards, until for so long nothing of theirs has come."""
        gives_up = trio.current_time() + patience_s
        while self._awaited:
            outside = {path for path in self._awaited.values() if path not in self._ended}
            await for_each(outside, self._ask, at_once=_ASK_AT_ONCE)
            came = self._arrived | self._ended.keys() - self._awaited.keys()
            ready = [path for path in self._order if self._awaited.get(path) in came]
            await for_each(ready, self._seal_at_last, at_once=_ASK_AT_ONCE)
            if ready:
                gives_up = trio.current_time() + patience_s
            elif trio.current_time() < gives_up:
                advance(0)  # tells what is waited for
                await trio.sleep(patience_s / _QUESTIONS)
            else:
                return

    async def _look(self, path: StorePath) -> None:
        try:
            if await self._target.has(self._members[path]):
                self._end(path, "present")
        except NarfsError as failure:
            self._end(path, "failed", str(failure))

    async def _seal(self, path: StorePath, advance: Callable[[int], None]) -> None:
        try:
            await self._target.take(self._members[path], advance, self._wait_for_references)
        except NarfsError as failure:
            self._end(path, "waiting" if path in self._awaited else "failed", str(failure))
        else:
            self._end(path, "sealed")

    async def _seal_at_last(self, path: StorePath) -> None:
        del self._awaited[path]
        await self._seal(path, lambda _: None)

    def _end(self, path: StorePath, status: Status, error: str | None = None) -> None:
        self._done[path] = SealedPath(path.path, status, self._members[path].narinfo.nar_size, error)
        self._ended[path].set()

    async def _ask(self, reference: StorePath) -> None:
        with suppress(Unavailable):  # then it is asked again
            await self._arrives(reference)

    async def _arrives(self, reference: StorePath) -> bool:
        if self._to is None or await self._to.has_narinfo(reference.hash_part):
            self._arrived.add(reference)
        return reference in self._arrived

    async def _wait_for_references(self, narinfo: NarInfo) -> None:
        """Return when the lake has all that a path refers to; Unavailable if one does not come, or not from here."""
        for reference in sorted({*narinfo.references} - {narinfo.path} - self._arrived):
            if reference in self._ended:
                await self._ended[reference].wait()
                status = self._done[reference].status
                if status == "failed":
                    raise Unavailable(f"refers to {reference.path}, which failed")
                arrives = status != "waiting"
            else:
                arrives = await self._arrives(reference)
                if not arrives and self._shard.has(reference.hash_part):
                    raise Unavailable(f"refers to {reference.path}, which is not in the lake: use --closure")
            if not arrives:
                self._awaited[narinfo.path] = reference
                raise Unavailable(f"refers to {reference.path}, which another shard has still to bring: run again")
