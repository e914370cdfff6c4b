"""Everything a handler waits for, in one place, so that it can be ended.

The kernel has no patience of its own: a request without an answer holds its program, unkillable, for ever. So each wait
has a deadline, and when the mount goes away all of them end at once::

    handler                         Waits                         serve_mount
    within(120, accessor.read, ..)  scope noted, accessor asked
                                                                  cancelled: close()
                                    every scope cancelled
    raises Closing, is answered     scope forgotten               nothing waits: terminate
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple

import trio

from narfs.errors import Closing, TooSlow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Payer(Protocol):
    """Who is accounted what is fetched."""

    async def pays(self, ask: Callable[[*Ts], Awaitable[T]], /, *args: *Ts) -> T:
        """Ask, and give the answer."""


class Waits:
    """The waits of one View; ``payer`` pays for what is fetched meanwhile."""

    def __init__(self, payer: Payer | None = None) -> None:
        self._payer = payer
        self._scopes: set[trio.CancelScope] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._scopes)

    async def within(self, deadline_s: float, ask: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Ask and wait for the answer; TooSlow after ``deadline_s``, Closing when the mount goes away.

        Costs about 5 µs, so whoever may know the answer already looks first.
        """
        if not self._closing:
            with trio.move_on_after(deadline_s) as scope:
                self._scopes.add(scope)
                try:
                    return await (ask(*args) if self._payer is None else self._payer.pays(ask, *args))
                finally:
                    self._scopes.discard(scope)
        if self._closing:
            raise Closing("the mount is going away")
        raise TooSlow(f"no answer within {deadline_s:g} s; the work goes on, ask again later")

    async def close(self) -> None:
        """End all waits, now and in future; returns when every handler that waited has been told."""
        self._closing = True
        while self._scopes:
            for scope in self._scopes:
                scope.cancel()
            await trio.lowlevel.checkpoint()
