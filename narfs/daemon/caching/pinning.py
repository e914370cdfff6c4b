"""Pinning: what is pinned is brought into the cache, and brought again when some of it was lost.

A process that has a cache and stores does it beside its other work: from the start, when a pin comes, when something of
the cache was lost, and a minute after something could not be had.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from narfs.cache.pins import Pin, PinnedPath
from narfs.daemon.selection import Selection
from narfs.daemon.sizes import in_words
from narfs.engine.ahead.bringing import Allowance, Want, bring
from narfs.errors import CacheUnusable, NarfsError, NotFound, UsageError
from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from narfs.cache.chunk_cache import ChunkCache
    from narfs.daemon.selection import PathName
    from narfs.daemon.session import Session

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0
"""Whether something was lost: a look at a number."""
_TRY_AGAIN_S: Final = 60.0
_ROUNDS: Final = 3
"""One may bring more at once than the cache's disk takes; the next brings the rest."""


@dataclass(frozen=True, slots=True)
class PinFacts:
    """How a pin does; ``trouble`` is why it is not complete and nothing more comes for now."""

    name: str
    paths: int
    nar_bytes: int
    missing_bytes: int
    """About."""
    complete: bool
    trouble: str | None


@dataclass(slots=True)
class _State:
    missing: list[PinnedPath] = field(default_factory=list)
    """NARs that are not complete, as of the last look."""
    trouble: str | None = None


class Pinning:
    """Of one cache. ``session`` has the stores that pins are fetched from, or opens them."""

    def __init__(
        self, cache: ChunkCache, session: Session | Callable[[], AbstractAsyncContextManager[Session]]
    ) -> None:
        self._pinned = cache.pinned
        if callable(session):
            self._session = session
        else:
            opened = nullcontext(session)
            self._session = lambda: opened
        self._states = {pin.name: _State(list(pin.paths)) for pin in cache.pinned.pins.all}
        self._changed = trio.Event()
        self._adding = trio.Lock()
        """Two that were added up at once would each leave the other out."""

    def facts(self) -> list[PinFacts]:
        """Say how each does. About 30 µs a NAR that is missing."""
        return [self._facts(pin) for pin in self._pinned.pins.all]

    async def pin(self, name: PathName) -> PinFacts:
        """Keep a closure from now on, and bring it soon; the rest of what ``facts`` tell comes true meanwhile.

        NotFound names what no store has, UsageError says that it would not fit; CacheUnusable, Unavailable, Untrusted.
        """
        now = time.time()
        async with self._session() as session:
            members = await session.members(Selection(closed=True, closures=(name,)))
        root = next(one.narinfo.path for one in members if one.narinfo.path.hash_part == name.hash_part)
        pin = Pin(root.base_name, tuple(PinnedPath(one.lake.keeps_as, one.domain, one.narinfo, now) for one in members))
        async with self._adding:
            needed, most = self._pinned.pins.bytes_with(pin), self._pinned.most_bytes()
            if needed > most:
                raise UsageError(
                    f"{pin.name}: its closure and what is pinned already take {in_words(needed)}, and at most"
                    f" {in_words(most)} of this cache can be pinned: raise --cache-size, or unpin something"
                )
            await self._pinned.keep(pin)
        self._states[pin.name] = _State(list(pin.paths))
        self._changed.set()
        facts = self._facts(pin)
        log.info("pinned %s: %d paths, %s", pin.name, facts.paths, in_words(facts.nar_bytes))
        return facts

    async def unpin(self, name: PathName) -> None:
        """End a pin: what it is of may be evicted. NotFound."""
        for pin in self._pinned.pins.all:
            if pin.name.startswith(name.hash_part):
                await self._pinned.let_go(pin.name)
                self._states.pop(pin.name, None)
                log.info("unpinned %s", pin.name)
                return
        raise NotFound(f"{name.path or name.hash_part} is not pinned; narfs cache status lists what is")

    async def run(self) -> None:
        """Keep all pins complete."""
        while True:
            self._changed, lost = trio.Event(), self._pinned.lost
            for pin in self._pinned.pins.all:
                await self._complete(pin)
            troubled = any(state.trouble for state in self._states.values())
            with trio.move_on_after(_TRY_AGAIN_S if troubled else float("inf")):
                while not self._changed.is_set() and self._pinned.lost == lost:
                    with trio.move_on_after(_LOOK_EVERY_S):
                        await self._changed.wait()

    async def _complete(self, pin: Pin) -> None:
        if (state := self._states.get(pin.name)) is None:
            return  # unpinned meanwhile
        before, state.trouble = state.trouble, None
        try:
            await self._bring_all(pin, state)
        except NarfsError as error:
            state.trouble = str(error)
            level = logging.DEBUG if state.trouble == before else logging.WARNING
            log.log(level, "pin %s: %s; tried again every %d s", pin.name, error, _TRY_AGAIN_S)
        except Exception as error:  # whoever has the cache serves on
            state.trouble = f"a bug in narfs: {error!r}"
            log.exception("pin %s: a bug in narfs", pin.name)

    async def _bring_all(self, pin: Pin, state: _State) -> None:
        trouble: NarfsError | None = None
        for _ in range(_ROUNDS):
            state.missing = await self._pinned.incomplete(pin)
            if not state.missing:
                return
            trouble = await self._bring(state.missing)
        state.missing = await self._pinned.incomplete(pin)
        if state.missing:
            raise trouble or CacheUnusable(f"the cache does not keep {state.missing[0].narinfo.path.base_name}")

    async def _bring(self, missing: list[PinnedPath]) -> NarfsError | None:
        """Bring what is missing, and say what some of it failed with."""
        async with self._session() as session:
            store = session.store
            accessors = await store.accessors([await store.describe(path.narinfo.path) for path in missing])
            whole = [Want(each, NarSpan(NarOffset(0), NarOffset(each.nar_size))) for each in accessors]
            return (await bring(whole, Allowance())).trouble

    def _facts(self, pin: Pin) -> PinFacts:
        state = self._states.get(pin.name, _State())
        missing = sum(max(0, path.narinfo.nar_size - self._pinned.here_bytes(path.key)) for path in state.missing)
        nar_bytes = sum({path.key: path.narinfo.nar_size for path in pin.paths}.values())
        return PinFacts(pin.name, len(pin.paths), nar_bytes, missing, not state.missing, state.trouble)


@asynccontextmanager
async def keep_pins(cache: ChunkCache, session: Session) -> AsyncIterator[Pinning]:
    """Keep all pins complete while the block runs."""
    async with trio.open_nursery() as nursery:
        pinning = Pinning(cache, session)
        nursery.start_soon(pinning.run)
        yield pinning
        nursery.cancel_scope.cancel()
