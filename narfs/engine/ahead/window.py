"""Streams: who reads a NAR forward, and how far ahead of him it should be fetched. Pure: told of reads, gives spans.

Rule 1. A stream is a place that reads go on from. The kernel asks in pieces of 128 KiB, two or three at once and
not always in order, so what begins a little before or behind the place belongs to it. Several readers have a stream
each; who has not been seen for STALE_S has none.
Rule 2. The *run* of a stream is what was read of it in order; what was jumped over is taken off again. The window is
GROWTH times that, up to the limit that the caller gives, so of a reader who stops at most as much is wasted as GROWTH
says, and a reader who jumps has none.
Rule 3. Nothing is fetched ahead before a reader has come from one chunk into the next (RUN_MIN_BYTES): programs touch
most places once. After a stream that ended with more fetched than its run it takes twice as much, up to RUN_MAX_BYTES;
after one that ended well half as much. So a data base that is read by the megabyte costs a few megabytes once.
Rule 4. A window ends with its file until the stream has come from one file into the next: so reads a program that walks
over a tree, whose order is that of the NAR.
Rule 5. Windows move on by a quarter, so that requests are large.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

RUN_MIN_BYTES: Final = 256 * 1024 + 1
RUN_MAX_BYTES: Final = 64 * RUN_MIN_BYTES
GROWTH: Final = 2
STALE_S: Final = 10.0

_STREAMS: Final = 8
"""Readers of one NAR that are told apart."""
_SLACK_BYTES: Final = 512 * 1024
"""The kernel reads 128 KiB ahead of what it was asked for, and has up to three such reads under way."""
_GAP_BYTES: Final = 4096
"""Between the contents of two files there is the header of the second, and maybe an empty file or a directory."""


@dataclass(slots=True, eq=False)
class Stream:
    """A reader who goes forward; ``payer`` is for who fetches."""

    place: int
    """Where he has come to."""
    run: int
    fetched: int
    """Up to where it was asked for."""
    file_end: int
    seen_at: float
    walks: bool = False
    """Whether he has come from one file into the next."""
    payer: Context | None = None

    def takes(self, start: int) -> bool:
        """Say whether a read that begins at ``start`` is his."""
        behind = _SLACK_BYTES if start < self.file_end else _GAP_BYTES
        return self.place - _SLACK_BYTES <= start <= self.place + behind

    def advance(self, start: int, end: int) -> None:
        """Note a read of his."""
        if end > self.place:
            jumped = max(0, start - self.place)
            self.run = max(0, self.run - jumped) + end - max(start, self.place)
            self.place = end

    @property
    def was_wrong(self) -> bool:
        """Whether more was fetched for nobody than he has read."""
        return self.fetched - self.place > self.run

    def window(self, limit_bytes: int, run_min_bytes: int) -> NarSpan | None:
        """Give what should be fetched now."""
        if self.run < run_min_bytes and not self.walks:
            return None
        size = min(GROWTH * self.run, limit_bytes)
        end = self.place + size if self.walks else min(self.place + size, self.file_end)
        start = max(self.fetched, self.place)
        if end - start < size // 4 and end != self.file_end:
            return None
        return NarSpan(NarOffset(start), NarOffset(end)) if start < end else None


class Ahead(NamedTuple):
    """What to fetch, and for whose sake. ``stream.fetched`` is set to where fetching has come to by who does it."""

    stream: Stream
    span: NarSpan


class Streams:
    """Those of one NAR; ``file_end`` says where the file ends that a place is in."""

    def __init__(self, nar_size: int, file_end: Callable[[int], int]) -> None:
        self._nar_size = nar_size
        self._file_end = file_end
        self._streams: deque[Stream] = deque()
        """The latest last."""
        self._run_min_bytes = RUN_MIN_BYTES

    def __len__(self) -> int:
        return len(self._streams)

    def read(self, start: int, end: int, *, now: float, limit_bytes: int, missed: bool) -> Ahead | None:
        """Take note of a read; give what should be fetched. Only a read that ``missed`` something begins a stream."""
        while self._streams and now - self._streams[0].seen_at > STALE_S:
            self._end_oldest()
        stream = self._find(start)
        if stream is None:
            if missed:
                self._begin(Stream(end, end - start, end, self._file_end(start), now))
            return None
        stream.seen_at = now
        if start >= stream.file_end:
            stream.file_end = self._file_end(start)
            stream.walks = True
        stream.advance(start, end)
        span = stream.window(min(limit_bytes, self._nar_size - stream.place), self._run_min_bytes)
        return None if span is None else Ahead(stream, span)

    def _find(self, start: int) -> Stream | None:
        """Give the latest stream that takes a read, as the latest from now on."""
        for stream in reversed(self._streams):
            if stream.takes(start):
                self._streams.remove(stream)
                self._streams.append(stream)
                return stream
        return None

    def _begin(self, stream: Stream) -> None:
        if len(self._streams) == _STREAMS:
            self._end_oldest()
        self._streams.append(stream)

    def _end_oldest(self) -> None:
        ended = self._streams.popleft()
        if ended.was_wrong:
            self._run_min_bytes = min(2 * self._run_min_bytes, RUN_MAX_BYTES)
        elif ended.run > self._run_min_bytes:
            self._run_min_bytes = max(self._run_min_bytes // 2, RUN_MIN_BYTES)
