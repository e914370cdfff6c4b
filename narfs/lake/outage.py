"""Outage: that a lake is down is found out once, and its return within seconds, whoever wants what of it meanwhile.

Without it each path that nobody has asked for would cost its own deadline, one after the other where the kernel lets
one lookup in a directory wait for the other.

Rule 1: a lake is suspected when a request that it did not answer has failed for good, or has waited for SUSPECTED_S.
It is down if it does not give its nix-cache-info within PROBED_S then. One broken object is no outage.
Rule 2: while it is down it is asked for nix-cache-info and nothing else that could be told at once instead. Who looks
for a path gets the trouble as his answer. Who reads what he has begun to read is as patient as he would be with a
stalled stream, counted from when the lake went down: a wire that is plugged in again costs no build.
Rule 3: what is under way goes on. Whatever the lake answers ends the outage.
Rule 4: both ends are logged, for information: who is told that it is down says so himself.
Rule 5: nobody is asked on nobody's behalf: INTEREST_S after the last request the outage is forgotten.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from narfs.errors import Corrupt, NarfsError, OverQuota, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_log = logging.getLogger(__name__)

SUSPECTED_S = 2.0
PROBED_S = 2.0
"""As long as five attempts at a port that refuses; a round trip to the other end of the world takes a tenth of it."""
PAUSE_S = 1.0
INTEREST_S = 60.0


class Outage:
    """Of the lake ``what``, which ``probe`` asks for its nix-cache-info; ``received`` counts what came from it.

    Without a nursery nobody watches, and the lake is never down.
    """

    def __init__(
        self,
        what: str,
        probe: Callable[[], Awaitable[object]],
        received: Callable[[], int],
        *,
        patience_s: float,
        nursery: trio.Nursery | None,
    ) -> None:
        self._what = what
        self._probe = probe
        self._received = received
        self._patience_s = patience_s
        self._nursery = nursery
        self._reason: str | None = None
        """What failed last, without an answer since."""
        self._trouble: str | None = None
        self._down_since = 0.0
        self.ended_at = -math.inf
        """When it answered again for the last time."""
        self._heard_at = self._answered_at = self._wanted_at = -math.inf
        """The first also of bytes of an answer that is not complete."""
        self._heard_bytes = 0
        self._waiting: dict[object, float] = {}
        """When the requests under way were begun; the oldest is the first."""
        self._suspicion = trio.Event()
        self._watched = False

    @property
    def trouble(self) -> Unavailable | None:
        """Why it is."""
        return None if self._trouble is None else Unavailable(f"{self._what}: is down: {self._trouble}")

    def answered_since(self, moment: float) -> bool:
        """Whether the lake answered anything since then."""
        if (received := self._received()) != self._heard_bytes:
            self._heard_bytes, self._heard_at = received, trio.current_time()
        return self._heard_at > moment

    @contextmanager
    def asking(self, *, patient: bool = False) -> Iterator[None]:
        """Ask in the block, or raise the trouble at once; ``patient``: if that has lasted (rule 2)."""
        self._wanted_at = begun = trio.current_time()
        if (trouble := self.trouble) is not None and not (patient and begun < self._down_since + self._patience_s):
            raise trouble
        request = object()
        self._waiting[request] = begun
        self.answered_since(begun)
        self._watch_soon()
        try:
            yield
        except OverQuota:
            raise
        except Unavailable as error:
            if not self.answered_since(begun):
                self._reason = str(error)
                self._suspicion.set()
            raise
        except Corrupt:  # nonsense; a login page, perhaps
            self._suspicion.set()
            raise
        except NarfsError:
            self._answered()
            raise
        else:
            self._answered()
        finally:
            del self._waiting[request]

    def _watch_soon(self) -> None:
        if self._nursery is not None and not self._watched:
            self._watched = True
            self._nursery.start_soon(self._watch)

    async def _watch(self) -> None:
        """Look after the lake while it is down or requests are under way."""
        try:
            while self._wanted_at + INTEREST_S > trio.current_time():
                left_s = self._unsuspected_s()
                if self._trouble is not None or self._suspicion.is_set() or left_s <= 0:
                    await self._ask()
                    left_s = PAUSE_S
                elif not self._waiting:
                    break
                with trio.move_on_after(left_s):
                    await self._suspicion.wait()
        finally:
            self._trouble = None
            self._watched = False

    def _unsuspected_s(self) -> float:
        """Give the seconds for which the oldest request may still wait in silence."""
        now = trio.current_time()
        self.answered_since(now)
        return max(next(iter(self._waiting.values()), math.inf), self._heard_at) + SUSPECTED_S - now

    async def _ask(self) -> None:
        begun, self._suspicion = trio.current_time(), trio.Event()
        try:
            with trio.move_on_after(PROBED_S) as patience:
                await self._probe()
            if not patience.cancelled_caught:
                self._answered()
                return
            trouble, well = f"no answer within {PROBED_S:g} s", self.answered_since(begun)
        except NarfsError as error:  # also of a login page, which is an answer: only that of another request counts
            trouble, well = str(error), self._answered_at > begun
        except (MemoryError, RuntimeError) as error:  # this process lacks something, for example a thread to be had
            _log.debug("%s: not asked whether it is down: %s", self._what, error)
            return
        if self._trouble is None and not well:
            self._trouble, self._down_since = self._reason or trouble, begun
            _log.info("%s: is down: %s; what only it has fails until it answers", self._what, self._trouble)

    def _answered(self) -> None:
        self._heard_at = self._answered_at = trio.current_time()
        self._reason = None
        if self._trouble is not None:
            self._trouble, self.ended_at = None, trio.current_time()
            _log.info("%s: answers again", self._what)
