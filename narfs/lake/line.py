"""Line: so many bytes a second, shared by weight among those who want it at the same time.

Start-time fair queueing: a slice of ``n`` bytes of a lane with weight ``w`` begins, in virtual time, where the lane's
last one ended (or now, if that is over), and ends ``n / w`` later. The slice that ends first is carried first. So a
lane alone has the whole line, two of weights 1 and 3 have a quarter and three, and a narinfo waits for one slice of
somebody's gigabyte, not for the gigabyte.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

import trio

_SLICE_S: Final = 0.02
"""What a slice takes of the line: how long others wait for it. A timer of the event loop is late by 0.1 ms."""
_CREDIT_S: Final = 0.05
"""Idle time that may be made up for, so that late timers cost nothing."""


@dataclass(slots=True, order=True)
class _Slice:
    end: float
    number: int
    start: float = field(compare=False)
    nbytes: int = field(compare=False)
    turn: trio.Event = field(default_factory=trio.Event, compare=False)


class Line:
    """One line; ``lane`` is a user's part of it."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._slice_bytes = max(1, int(bytes_per_s * _SLICE_S))
        self._waiting: list[_Slice] = []
        self._busy = False
        self._free_at = 0.0
        self._virtual_now = 0.0
        self._numbers = count()

    def lane(self, weight: float = 1) -> Lane:
        """Give a user's part."""
        return Lane(self, weight)

    async def carry(self, nbytes: int, lane: Lane) -> None:
        """Wait for as long as these bytes take."""
        if nbytes <= 0:
            return
        piece: _Slice | None = self._enter(lane, nbytes)
        if not self._busy:
            self._pass_on()
        while piece is not None:
            await self._wait_turn(piece)
            try:
                self._virtual_now = piece.start
                took_s = piece.nbytes / self._bytes_per_s
                self._free_at = max(self._free_at, trio.current_time() - _CREDIT_S) + took_s
                await trio.sleep_until(self._free_at)
                nbytes -= piece.nbytes
                # Before the line is passed on: a heavy lane may well be the next again.
                piece = self._enter(lane, nbytes) if nbytes else None
            finally:
                self._pass_on()

    def _enter(self, lane: Lane, nbytes: int) -> _Slice:
        nbytes = min(nbytes, self._slice_bytes)
        start = max(self._virtual_now, lane.virtual_end)
        lane.virtual_end = start + nbytes / lane.weight
        piece = _Slice(lane.virtual_end, next(self._numbers), start, nbytes)
        heappush(self._waiting, piece)
        return piece

    async def _wait_turn(self, piece: _Slice) -> None:
        try:
            await piece.turn.wait()
        except trio.Cancelled:
            if piece.turn.is_set():
                self._pass_on()
            else:
                self._waiting.remove(piece)
                heapify(self._waiting)
            raise

    def _pass_on(self) -> None:
        self._busy = bool(self._waiting)
        if self._waiting:
            heappop(self._waiting).turn.set()


class Lane:
    """One user's part of a line. Made by ``Line.lane``."""

    def __init__(self, line: Line, weight: float) -> None:
        self._line = line
        self.weight = weight
        self.virtual_end = 0.0

    async def carry(self, nbytes: int) -> None:
        """Wait for as long as these bytes take."""
        await self._line.carry(nbytes, self)
