"""Governor: when work that nobody waits for may begin. One for a process: all Views share its way to the lakes.

Rule 1. What a program waits for is never held back, and is told here only so that others step aside.
Rule 2. While somebody waits, and for a round trip or so after, work ahead may take half of what the way to the lake
holds (``pace``), in requests as small as they can be, no faster than half the rate, if each of them takes little of a
round trip. So the link does not idle through the round trips of a starting program, and what he waits for meets no
queue. On a short or slow way that is nothing at all. How much a way holds is found out once, by a few requests that are
too many.
Rule 3. Otherwise it may fill the way: one request at least, and not more than MEMORY_BYTES in all.
Rule 4. Turns are given in the order in which they were asked for, host by host. Who has waited for PATIENCE_S has one
request, whatever happens: in 5 s a reader has asked for a hundred things and more, so his p99 does not see it.

A turn is for one request; nothing that has a turn waits for another, so whoever comes to wait for a fetch that was
begun ahead waits for that request and no longer.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from weakref import WeakKeyDictionary

import trio

from narfs.engine.ahead.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from narfs.lake.binary_cache import BinaryCache

MEMORY_BYTES: Final = 32 * 1024 * 1024
"""Fetched ahead and not yet in the cache, of all lakes; packed until it is unpacked. 100 ms of 2.5 Gbit/s."""

PATIENCE_S: Final = 5.0

_AT_ONCE: Final = 16
"""Turns of one host: half of what a lake is asked at once, so that there is always room for what somebody waits for."""

_FOLLOWING_MIN_BYTES: Final = 1024 * 1024
_STARTING_BYTES: Final = 3 * 1024 * 1024
"""A program and its libraries, packed: python3.11 is 2.6 MB, its libraries at the start 1 MB. 25 ms of 1 Gbit/s."""
_FOLLOWING_PIECE_MIN_BYTES: Final = 256 * 1024
"""On a slow link. A request costs 0.7 ms of processor: with 384 KiB a GB takes 0.5 s more than with 1 MiB, with 2 MiB
no less."""
_PIECES_AHEAD: Final = 4
"""In a window, which moves on by a quarter: so that a request is a piece."""

_PIECE_S: Final = 0.01
"""What one request ahead takes of the link: how long others may have to wait for it."""
_PIECE_MIN_BYTES: Final = 64 * 1024
_PIECE_MAX_BYTES: Final = 1024 * 1024
"""What comes is in memory until it is unpacked; and larger ones cost no less (see above)."""
_FIRST_BYTES: Final = 256 * 1024
"""In flight when nothing is known and nobody waits: two round trips less until a way is filled."""
_SHARE_BESIDE_READERS: Final = 0.5
_DISTURBING_SHARE: Final = 0.08
"""Of a round trip: what one request more may add to a read is less than the 10 % that are promised."""
_QUIET_S: Final = (0.01, 0.05)
"""After a read, a round trip but at least and at most this. Programs think for a millisecond or so between two reads;
and a far lake should not make work ahead wait for longer than it takes to start a program."""


@dataclass(slots=True)
class Way:
    """To the lakes of one host."""

    pace: Pace = field(default_factory=Pace)
    order: trio.StrictFIFOLock = field(default_factory=trio.StrictFIFOLock)
    """Of those who wait for a turn."""
    given_at: float = -math.inf
    """When the last turn was given."""
    turns: int = 0
    """Requests in flight that have one."""
    next_at: float = -math.inf
    """When the next may be, beside readers."""


class Turn:
    """Leave to ask a lake for about ``most_bytes``; ``end`` it when they are kept or given up. Also a context."""

    def __init__(self, governor: Governor, way: Way, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        """What should be asked for; a single chunk or frame may be more."""
        self._governor = governor
        self._way = way
        self._in_flight = self._held = most_bytes
        way.turns += 1
        way.pace.in_flight_bytes += most_bytes
        governor.held_bytes += most_bytes

    def takes(self, nbytes: int) -> None:
        """Note what is asked for."""
        self._way.pace.in_flight_bytes += nbytes - self._in_flight
        self._governor.held_bytes += nbytes - self._held
        self._in_flight = self._held = nbytes

    def arrived(self) -> None:
        """Note that the bytes are here: the way is free for others."""
        if self._in_flight:
            self._way.turns -= 1
            self._way.pace.in_flight_bytes -= self._in_flight
            self._in_flight = 0
            self._governor.look_again()

    def holds(self, nbytes: int) -> None:
        """Note how much it is, unpacked."""
        self._governor.held_bytes += nbytes - self._held
        self._held = nbytes

    def end(self) -> None:
        """Note that nothing of it is held any more. May be called again."""
        self.arrived()
        self._governor.held_bytes -= self._held
        self._held = 0
        self._governor.look_again()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Governor:
    """Gives turns to work ahead of all readers."""

    def __init__(self) -> None:
        self.held_bytes = 0
        """In all turns that have not ended."""
        self._ways: WeakKeyDictionary[BinaryCache, Way] = WeakKeyDictionary()
        self._ways_by_host: dict[str, Way] = {}
        self._waiting = 0
        self._quiet_at = -math.inf
        self._changed = trio.lowlevel.ParkingLot()

    def pace(self, lake: BinaryCache) -> Pace:
        """Give what is known of a lake."""
        return self._way(lake).pace

    # Whoever waits.

    @contextmanager
    def waiting(self, pace: Pace | None = None) -> Iterator[None]:
        """Note that a program waits for what is fetched in the block; ``pace`` of the lake, if it is one request."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            least_s, most_s = _QUIET_S
            rest_s = least_s if pace is None else max(least_s, min(pace.round_trip_s, most_s))
            self._quiet_at = max(self._quiet_at, trio.current_time() + rest_s)
            self.look_again()

    @contextmanager
    def asking(self, lake: BinaryCache, nbytes: int, turn: Turn | None) -> Iterator[None]:
        """Do a request to a lake in the block; without a ``turn`` somebody waits for it."""
        way = self._way(lake)
        pace, most = way.pace, False
        begun, before = trio.current_time(), lake.statistics().received_bytes_total
        if turn is not None:
            try:
                yield
            finally:
                most = way.turns >= _AT_ONCE
                turn.arrived()
        else:
            pace.in_flight_bytes += nbytes
            try:
                with self.waiting(pace):
                    yield
            finally:
                pace.in_flight_bytes -= nbytes
        now = trio.current_time()
        pace.note(now, now - begun, nbytes, lake.statistics().received_bytes_total - before, most=most)

    # Work ahead.

    async def turn(self, lake: BinaryCache) -> Turn:
        """Wait until one request of nobody's may be sent to a lake. ``end`` the turn."""
        way, asked_at = self._way(lake), trio.current_time()
        async with way.order:
            while (rest_s := self._rest_s(way, max(asked_at, way.given_at) + PATIENCE_S)) > 0:
                with trio.move_on_after(rest_s):
                    await self._changed.park()
            now = way.given_at = trio.current_time()
            turn = Turn(self, way, self._piece_bytes(way.pace))
            if self._beside_readers and way.pace.known:
                way.next_at = now + turn.most_bytes / (_SHARE_BESIDE_READERS * way.pace.bytes_per_s)
            return turn

    # Ahead of who reads forward.

    def window_bytes(self, lake: BinaryCache) -> int:
        """Say how much of blobs should be on its way, or here, for one reader who wants all that follows."""
        return max(_PIECES_AHEAD * self.piece_bytes(lake), self._filling_bytes(lake))

    def piece_bytes(self, lake: BinaryCache) -> int:
        """Say how much one request should ask for then."""
        return _piece_bytes(self.pace(lake), _FOLLOWING_PIECE_MIN_BYTES)

    def turn_nowait(self, lake: BinaryCache, nbytes: int, *, starting: bool = False) -> Turn | None:
        """Give leave at once for what follows what a program reads, if it finds place. ``end`` the turn.

        ``starting``: for what a program needs to start; of that more may be tried while nothing is known of the lake.
        """
        way = self._way(lake)
        most_bytes = max(_FOLLOWING_MIN_BYTES, 2 * self.piece_bytes(lake), self._filling_bytes(lake))
        if starting and not way.pace.known:
            most_bytes = max(most_bytes, _STARTING_BYTES)
        full = way.pace.in_flight_bytes >= most_bytes or way.turns >= _AT_ONCE
        if full or (self.held_bytes and self.held_bytes + nbytes > MEMORY_BYTES):
            return None
        return Turn(self, way, nbytes)

    def look_again(self) -> None:
        """Let those that wait for a turn look whether it has come."""
        self._changed.unpark_all()

    def _filling_bytes(self, lake: BinaryCache) -> int:
        pace = self.pace(lake)
        return int(min(pace.gain(trio.current_time()) * pace.filling_bytes, MEMORY_BYTES))

    @property
    def _beside_readers(self) -> bool:
        return self._waiting > 0 or trio.current_time() < self._quiet_at

    def _piece_bytes(self, pace: Pace) -> int:
        return _PIECE_MIN_BYTES if self._beside_readers else _piece_bytes(pace, _PIECE_MIN_BYTES)

    def _rest_s(self, way: Way, patient_until: float) -> float:
        """Say when to look again at the latest; 0: it is time."""
        now, pace = trio.current_time(), way.pace
        piece_bytes = self._piece_bytes(pace)
        if way.turns >= _AT_ONCE or (self.held_bytes and self.held_bytes + piece_bytes > MEMORY_BYTES):
            return math.inf
        if now >= patient_until:
            return 0
        if not self._beside_readers:
            first_bytes = 0 if pace.known else _FIRST_BYTES
            filled = pace.in_flight_bytes > max(first_bytes, pace.gain(now) * pace.filling_bytes)
            return patient_until - now if filled else 0
        if pace.in_flight_bytes + piece_bytes <= self._most_beside_readers(pace, now):
            next_at = way.next_at
        else:
            next_at = math.inf if self._waiting else self._quiet_at
        return max(0, min(next_at, patient_until) - now)

    def _most_beside_readers(self, pace: Pace, now: float) -> float:
        """Say how much may be in flight, of readers and others."""
        if not pace.known:
            return pace.gain(now) * pace.filling_bytes
        disturbs = _DISTURBING_SHARE * pace.filling_bytes < _PIECE_MIN_BYTES
        return 0 if disturbs else _SHARE_BESIDE_READERS * pace.holding_bytes

    def _way(self, lake: BinaryCache) -> Way:
        way = self._ways.get(lake)
        if way is None:
            way = self._ways[lake] = self._ways_by_host.setdefault(f"{lake.url.scheme}://{lake.url.netloc}", Way())
        return way


def _piece_bytes(pace: Pace, least_bytes: int) -> int:
    """Say how much to ask for at once: little of the link's time, but so much that a few requests fill the way."""
    wanted = max(_PIECE_S * pace.bytes_per_s, 2 * pace.filling_bytes / _AT_ONCE)
    return int(min(max(least_bytes, wanted), _PIECE_MAX_BYTES))
