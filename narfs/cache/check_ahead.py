"""CheckAhead: which chunks of one NAR are being compared with their digests, and which a reader will need next.

Rule 1. Nobody compares a chunk that another compares now: he waits, and finds it checked. The kernel asks for 128 KiB
at a time and for the next before it has the last, so without this every chunk of a file is hashed twice.
Rule 2. A reader who comes to an unchecked chunk exactly where a recent comparison ended is a sequential one: while he
compares his own, a task compares the window behind it. Random reads leave ends behind too, but do not meet them. (That
the chunk before is checked is no evidence: in a NAR that is half read it is so one time in two.)
Rule 3. A reader who enters the last window starts the next one, twice as large, so that he need not stop at its end.
Rule 4. One task per NAR, which takes a window per thread hop. No new evidence counts while it runs.
Rule 5. Nothing here knows whether a chunk is good: ``compare`` does, under the rules of CachedNar.

With four chunks in the first window::

    reader compares 7                       7 ends where 8 begins
    reader compares 8                       where the last one ended: the task compares 9 to 12
    reader waits for 9                      he has entered 9 to 12: the task goes on, compares 13 to 20
    reader has 9 to 12, in memory
    reader has 13                           he has entered 13 to 20: the task compares 21 to 28
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from narfs.offsets import ChunkGrid

_FIRST_WINDOW_BYTES: Final = 1024 * 1024
"""What two neighbouring reads cost a NAR that is otherwise read at random: 1 ms of sha256 beside the reader."""

_LARGEST_WINDOW_BYTES: Final = 2 * 1024 * 1024
"""A reader is at most two of these behind what is hashed. With hops of 1 MiB a GB takes 0.4 s of processor more, with
hops of 4 MiB no less."""

_ENDS: Final = 8
"""Readers of one NAR that are told apart."""


class CheckAhead:
    """The comparisons of one NAR. ``compare`` compares what is unchecked of a window, and says whether to go on."""

    __slots__ = (
        "_ends",
        "_first",
        "_grid",
        "_largest",
        "_nursery",
        "_running",
        "_under_way",
        "_wanted",
        "_window",
        "mark",
    )

    def __init__(self, grid: ChunkGrid, nursery: trio.Nursery) -> None:
        self.mark: float = math.inf
        """Chunks that end beyond it should be told to ``entered``: 0.04 µs a read, ``entered`` 0.07."""
        self._grid = grid
        self._nursery = nursery
        self._first = max(1, _FIRST_WINDOW_BYTES // grid.chunk_bytes)
        self._largest = max(1, _LARGEST_WINDOW_BYTES // grid.chunk_bytes)
        self._under_way: dict[int, trio.Event] = {}
        self._ends: tuple[int, ...] = ()
        self._window = range(0)
        self._running = False
        self._wanted = False

    async def others(self, chunks: range) -> bool:
        """Wait until nobody compares any of ``chunks``; say whether anybody did. Only then a checkpoint."""
        waited = False
        while (
            event := next((self._under_way[chunk] for chunk in chunks if chunk in self._under_way), None)
        ) is not None:
            waited = True
            await event.wait()
        return waited

    def nobodys(self, chunks: Iterable[int]) -> list[int]:
        """Give those of ``chunks`` that nobody compares now."""
        return [chunk for chunk in chunks if chunk not in self._under_way]

    @contextmanager
    def comparing(self, chunks: Sequence[int]) -> Iterator[None]:
        """Let everybody else wait for these; what becomes of them must be known when the block ends."""
        done = trio.Event()
        for chunk in chunks:
            self._under_way[chunk] = done
        try:
            yield
        finally:
            for chunk in chunks:
                del self._under_way[chunk]
            done.set()

    def follow(self, unchecked: Sequence[int], compare: Callable[[range], Awaitable[bool]]) -> None:
        """Note that a reader is about to compare ``unchecked``; if he is a sequential one, start the task."""
        if not unchecked:
            return
        sequential = unchecked[0] in self._ends
        stop = unchecked[-1] + 1
        self._ends = (stop, *self._ends[: _ENDS - 1])
        if sequential and not self._running:
            self._begin(stop, self._first, compare)

    def entered(self, past: int, compare: Callable[[range], Awaitable[bool]]) -> None:
        """Note that a reader was, or wants to be, given chunks up to ``past``, which is beyond the ``mark``."""
        if past > self._window.stop:
            return
        self.mark = math.inf
        if self._running:
            self._wanted = True
        else:
            self._begin(*self._next(), compare)

    def _next(self) -> tuple[int, int]:
        return self._window.stop, min(2 * len(self._window), self._largest)

    def _open(self, start: int, size: int) -> None:
        self._window = range(start, min(start + size, self._grid.count))
        self._wanted = False
        self.mark = start if self._window else math.inf

    def _begin(self, start: int, size: int, compare: Callable[[range], Awaitable[bool]]) -> None:
        self._open(start, size)
        if self._window:
            self._running = True
            self._nursery.start_soon(self._run, compare, name="check-ahead")

    async def _run(self, compare: Callable[[range], Awaitable[bool]]) -> None:
        try:
            while self._window and await compare(self._window) and self._wanted:
                self._open(*self._next())
        finally:
            self._running = False
