"""Lakes and Store of each Config and its credentials, open from first to last View: Views alike share fetches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from narfs.daemon.domains import Domains
from narfs.daemon.event_loop import most_telling
from narfs.daemon.session import open_session_in
from narfs.errors import Closing, NarfsError, again

if TYPE_CHECKING:
    from narfs.daemon.config import Config
    from narfs.daemon.session import Household, Session


@dataclass(slots=True, eq=False)
class _Held:
    users: int = 0
    session: Session | None = None
    failure: NarfsError | None = None
    known: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)

    async def wait(self) -> Session:
        await self.known.wait()
        if self.failure is not None:
            raise again(self.failure) from self.failure
        if self.session is None:
            raise Closing("the daemon is going away")
        return self.session


class Sessions:
    """Those that are open. ``take`` one for each View, ``give_back`` what was taken."""

    def __init__(self, household: Household, nursery: trio.Nursery) -> None:
        self._household = household
        self._nursery = nursery
        self._held: dict[tuple[Config, Domains], _Held] = {}

    @property
    def open(self) -> list[Session]:
        """All of them."""
        return [held.session for held in self._held.values() if held.session is not None]

    async def take(self, config: Config, common: Config) -> Session:
        """Give the session of ``config``, a View's, where ``common`` is the daemon's own; raises what failed."""
        key = config, Domains.of(config, common)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held()
            self._nursery.start_soon(self._hold, *key, held)
        held.users += 1
        try:
            return await held.wait()
        except BaseException:
            self._release(key, held)
            raise

    def give_back(self, session: Session) -> None:
        """Say that a View needs it no longer."""
        key = session.config, session.domains
        self._release(key, self._held[key])

    def _release(self, key: tuple[Config, Domains], held: _Held) -> None:
        held.users -= 1
        if not held.users:
            held.over.set()
            if self._held.get(key) is held:
                del self._held[key]

    async def _hold(self, config: Config, domains: Domains, held: _Held) -> None:
        try:
            async with open_session_in(self._household, config, domains) as held.session:
                held.known.set()
                await held.over.wait()
        except BaseExceptionGroup as group:
            self._failed(held, most_telling(group))
        except NarfsError as error:
            self._failed(held, error)
        finally:
            held.session = None

    @staticmethod
    def _failed(held: _Held, error: BaseException) -> None:
        if held.known.is_set() or not isinstance(error, NarfsError):
            raise error
        held.failure = error
        held.known.set()
