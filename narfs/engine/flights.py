"""Single flight: whoever asks first starts the work, everybody who asks meanwhile waits for the same result.

The work runs in the engine's nursery and belongs to nobody who waits: a reader that is cancelled, or whose deadline
passes, leaves the others and the work alone. An error is given to each waiter as a copy of its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from narfs.errors import Closing, NarfsError, Unavailable, again

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

_log = logging.getLogger(__name__)

K = TypeVar("K", bound="Hashable")
T = TypeVar("T")


def told(error: Exception) -> NarfsError:
    """Say what whoever waits for a piece of work is told: the nursery must outlive a bug in one, and a lack of memory.

    Others have what they have, and the next may find enough.
    """
    if isinstance(error, NarfsError):
        return error
    if isinstance(error, MemoryError):
        _log.warning("a piece of work ended: no memory left")
        return Unavailable("no memory left")
    _log.error("a bug ended a piece of work", exc_info=error)
    return Unavailable(f"a bug in narfs: {error!r}")


class Flight(Generic[T]):
    """One piece of work under way. Made by ``take_off``."""

    def __init__(self) -> None:
        self._landed = trio.Event()
        self._result: T | None = None
        self._error: NarfsError | None = None

    @property
    def landed(self) -> bool:
        """Whether the work has ended, either way."""
        return self._landed.is_set()

    async def result(self) -> T:
        """Wait for the work and give its result, or raise a copy of its error."""
        await self._landed.wait()
        if self._error is not None:
            raise again(self._error) from self._error
        return self._result  # type: ignore[return-value]  # landed without error: the result is a T

    async def run(self, work: Callable[[], Awaitable[T]]) -> None:
        """Do the work; nothing but cancellation leaves here."""
        try:
            self._result = await work()
        except Exception as error:  # noqa: BLE001 - told there
            self._error = told(error)
        except BaseException:
            self._error = Closing("the mount is going away")
            raise
        finally:
            self._landed.set()


def take_off(nursery: trio.Nursery, work: Callable[[], Awaitable[T]]) -> Flight[T]:
    """Start ``work`` in ``nursery``."""
    flight: Flight[T] = Flight()
    nursery.start_soon(flight.run, work)
    return flight


class Flights(Generic[K, T]):
    """At most one flight for each key."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flights: dict[K, Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def result(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for the flight of ``key``; start it with ``work`` if there is none."""
        return await self.join(key, work).result()

    def join(self, key: K, work: Callable[[], Awaitable[T]]) -> Flight[T]:
        """Give the flight of ``key``; start it with ``work`` if there is none."""
        if (flight := self._flights.get(key)) is None:
            flight = self._flights[key] = take_off(self._nursery, lambda: self._fly(key, work))
        return flight

    async def _fly(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        finally:
            del self._flights[key]
