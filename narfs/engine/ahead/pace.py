"""Pace: how fast one lake delivers, and how much must be in flight to have all of that.

As BBR sees a path: the *rate* is the most that was delivered in a second, the *round trip* the shortest that a request
took, both of the last 10 to 20 s. Their product fills the way, and a little more: the bytes of that request were in it.
Without them it is what the way *holds* while nothing waits anywhere.

While there is little to do the rate that is seen says nothing: such a sample counts only if it is higher. At first what
is seen is what was asked for. So twice as much is tried until the rate has stopped to grow; then it is *known*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_EPOCH_S: Final = 10.0
"""BBR's own for the round trip; a way that changes (a laptop that moves) is known after twice that."""
_GROWTH: Final = 1.25
_GROWING_ROUNDS: Final = 3
"""Round trips after the last growth for which more is tried: BBR's start-up ends so."""
_IN_VAIN: Final = 4
"""Requests that more was asked for beside, and no more came: one alone may be larger than those before it."""
_CRUISING_GAIN: Final = 1.25
_GROWING_GAIN: Final = 2.0


class Pace:
    """Of one lake. ``in_flight_bytes`` is kept by who asks."""

    def __init__(self) -> None:
        self.in_flight_bytes = 0
        self.known = False
        """Whether more was asked for than came."""
        self._rates = _Best(0.0, key=lambda rate: rate)
        self._shortest = _Best(_Request(0.0, 0), key=lambda request: -request.took_s)
        self._grew_at = 0.0
        self._in_vain = 0

    @property
    def bytes_per_s(self) -> float:
        """The rate; 0 before anything is known."""
        return self._rates.best

    @property
    def round_trip_s(self) -> float:
        """The shortest time of a request; 0 before anything is known."""
        return self._shortest.best.took_s

    @property
    def filling_bytes(self) -> float:
        """What has to be in flight to have the whole rate."""
        return self.bytes_per_s * self.round_trip_s

    @property
    def holding_bytes(self) -> float:
        """What may be in flight before anything queues."""
        return max(0.0, self.filling_bytes - self._shortest.best.nbytes)

    def gain(self, now: float) -> float:
        """By how much more than what fills the way should be tried."""
        return _GROWING_GAIN if self._growing(now) else _CRUISING_GAIN

    def note(self, now: float, took_s: float, nbytes: int, delivered_bytes: int, *, most: bool = False) -> None:
        """Learn from a request of ``nbytes`` that has just ended: how long it took, and what all brought meanwhile.

        ``most``: no more requests might be sent beside it. They may be too small to fill the way by far, and are too
        many all the same if this one came later than it could by as long as another takes.
        """
        if took_s <= 0 or delivered_bytes <= 0:
            return
        rate, before = delivered_bytes / took_s, self.bytes_per_s
        filled = self.in_flight_bytes > 0 and self.in_flight_bytes + nbytes >= _CRUISING_GAIN * self.filling_bytes
        queued = most and before * (took_s - self.round_trip_s) >= nbytes
        if rate > before or filled:
            self._rates.note(now, rate)
        self._shortest.note(now, _Request(took_s, nbytes))
        if rate > _GROWTH * before:
            self._grew_at, self.known, self._in_vain = now, False, 0
        elif (filled or queued) and not self._growing(now):
            self._in_vain += 1
            self.known = self.known or self._in_vain >= _IN_VAIN

    def _growing(self, now: float) -> bool:
        return now - self._grew_at <= _GROWING_ROUNDS * self.round_trip_s


class _Request(NamedTuple):
    """One that has ended."""

    took_s: float
    nbytes: int


class _Best(Generic[T]):
    """The best value of this epoch and the last, by ``key``."""

    def __init__(self, nothing: T, key: Callable[[T], float]) -> None:
        self._epoch = 0
        self._found: tuple[list[T], list[T]] = ([], [])
        self._nothing = nothing
        self._key = key

    @property
    def best(self) -> T:
        return max((*self._found[0], *self._found[1]), key=self._key, default=self._nothing)

    def note(self, now: float, value: T) -> None:
        epoch, (latest, before) = int(now / _EPOCH_S), self._found
        if epoch != self._epoch:
            self._epoch, latest, before = epoch, [], latest
        self._found = ([max((*latest, value), key=self._key)], before)
