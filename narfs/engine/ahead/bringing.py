"""Bringing named parts of NARs into the cache, before anybody asks for them.

In the order in which they are wanted, so that what is needed first comes first, several requests at once, each in its
turn (``governor``). What is here already, or on its way, is passed over. Nothing waits for the cache disk, and nothing
is held but what is in flight. A NAR of which no parts can be had passes as a whole.

One failure does not stop the others; eight in a row do, for then the lake is down, and each costs it five attempts.
Whoever calls may be cancelled at any time: what was asked for still comes, nothing more is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import trio

from narfs.errors import CacheUnusable, NarfsError, OverQuota
from narfs.offsets import NarSpan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from narfs.engine.accessor import NarAccessor
    from narfs.engine.ahead.governor import Turn
    from narfs.engine.flights import Flight
    from narfs.engine.ranges import Chunks

_log = logging.getLogger(__name__)

_FAILURES_IN_A_ROW: Final = 8
_GAP_BYTES: Final = 16 * 1024
"""Two wanted spans as close as this are one: they mostly share a chunk."""


class Want(NamedTuple):
    """Bytes of a NAR that somebody will probably read."""

    accessor: NarAccessor
    span: NarSpan


class Allowance:
    """How many bytes of blobs may be fetched ahead for one purpose. One request may begin while any are left."""

    def __init__(self, most_bytes: int | None = None) -> None:
        self.most_bytes = most_bytes
        """None: as many as are wanted."""
        self.spent_bytes = 0

    @property
    def left(self) -> int | None:
        """Bytes that are left; None: no end of them."""
        return None if self.most_bytes is None else max(0, self.most_bytes - self.spent_bytes)

    def spend(self, nbytes: int) -> bool:
        """Take so many; False, and nothing taken, if none are left."""
        if self.left == 0:
            return False
        self.spent_bytes += nbytes
        return True


@dataclass(slots=True)
class Brought:
    """What came of it. Bytes are those of NARs."""

    chunks: int = 0
    bytes: int = 0
    requests: int = 0
    failed: int = 0
    stopped_by: Literal["allowance", "quota", "cache", "failures"] | None = None
    """What ended it before everything was here."""
    trouble: NarfsError | None = None
    """What the last one failed with."""


async def bring(wants: Iterable[Want], allowance: Allowance, *, at_once: bool = False, trying: bool = False) -> Brought:
    """Bring what is wanted into the cache, as far as the allowance goes; returns when it is there or has failed.

    ``at_once``: a program is as good as waiting for it, and it is little. So no turn is waited for. ``trying``: a
    program will read it. So none is waited for until it is known how much the way to the lake holds.
    """
    bringing = _Bringing(allowance, at_once=at_once, trying=trying)
    async with trio.open_nursery() as landing:
        for accessor, span in _joined(wants):
            if bringing.brought.stopped_by is not None:
                break
            await bringing.begin(accessor, span, landing)
    return bringing.brought


class _Bringing:
    """One call of ``bring``."""

    def __init__(self, allowance: Allowance, *, at_once: bool, trying: bool) -> None:
        self.brought = Brought()
        self._allowance = allowance
        self._at_once = at_once
        self._trying = trying
        self._failed_in_a_row = 0
        self._passed: set[bytes] = set()
        """NARs that were begun to pass, by key."""

    async def begin(self, accessor: NarAccessor, span: NarSpan, landing: trio.Nursery) -> None:
        """Ask for all of a span, one turn after the other, and let somebody wait for what comes."""
        try:
            contents = None if accessor.key in self._passed else await accessor.contents_for(span)
            if contents is None:
                await self._begin_pass(accessor, landing)
                return
            rest: NarSpan | None = span
            while rest is not None and contents.plan_ahead(rest, 1) and self.brought.stopped_by is None:
                turn, flight = await accessor.turn_ahead(at_once=self._at_once, trying=self._trying), None
                try:
                    request = contents.plan_ahead(rest, turn.most_bytes)  # others may have been here meanwhile
                    if request is None or not self._may_spend(request.length):
                        return
                    flight = contents.take_off_ahead(request, turn, read_soon=self._at_once or self._trying)
                finally:
                    if flight is None:  # a turn that never ends is missing in the whole process
                        turn.end()
                landing.start_soon(self._land, flight)
                await trio.lowlevel.checkpoint()  # flights that take off together ask in any order
                rest = contents.behind(request, rest)  # not again, should the cache not keep it
        except NarfsError as error:
            self._note_failure(error)

    async def _begin_pass(self, accessor: NarAccessor, landing: trio.Nursery) -> None:
        if accessor.key not in self._passed and self._may_spend(accessor.pass_bytes):
            self._passed.add(accessor.key)
            landing.start_soon(self._pass, accessor, await accessor.turn_ahead())

    async def _pass(self, accessor: NarAccessor, turn: Turn) -> None:
        with turn:
            try:
                await accessor.pass_ahead()
            except NarfsError as error:
                self._note_failure(error)
                return
        self._note_success(accessor.nar_size, chunks=1)

    async def _land(self, flight: Flight[Chunks]) -> None:
        try:
            found = await flight.result()
        except NarfsError as error:
            self._note_failure(error)
        else:
            self._note_success(sum(map(len, found.values())), chunks=len(found))

    def _may_spend(self, nbytes: int) -> bool:
        if self._allowance.spend(nbytes):
            return True
        self.brought.stopped_by = "allowance"
        return False

    def _note_success(self, nbytes: int, *, chunks: int) -> None:
        self._failed_in_a_row = 0
        self.brought.requests += 1
        self.brought.chunks += chunks
        self.brought.bytes += nbytes

    def _note_failure(self, error: NarfsError) -> None:
        _log.debug("not fetched ahead: %s", error)
        self.brought.failed += 1
        self.brought.trouble = error
        self._failed_in_a_row += 1
        if isinstance(error, OverQuota):
            self.brought.stopped_by = "quota"
        elif isinstance(error, CacheUnusable):
            self.brought.stopped_by = "cache"
        elif self._failed_in_a_row >= _FAILURES_IN_A_ROW:
            self.brought.stopped_by = "failures"


def _joined(wants: Iterable[Want]) -> Iterator[Want]:
    """Join wants that follow on each other in one NAR."""
    last: Want | None = None
    for want in wants:
        if last is not None and want.accessor is last.accessor:
            near = last.span.start <= want.span.start <= last.span.end + _GAP_BYTES
            if near:
                last = Want(last.accessor, NarSpan(last.span.start, max(last.span.end, want.span.end)))
                continue
        if last is not None:
            yield last
        last = want
    if last is not None:
        yield last
