"""The slab of a View: the contents of all its files as one, for EROFS to read; its image says what lies where.

The kernel reads slabs ahead, up to 128 KiB, so a request begins with what somebody wants and goes on with files that
nobody may want. They come in one read of the NAR if they can. But a file is neither late nor failed because of its
neighbours::

    kernel             Slab                          accessor
    read a, b, c       is all of it at hand? no
                       read a to c, for a second     fetches; c is slow, or fails
                       read a                        has it
    page of a          answers                                            ←  EIO: the kernel asks again, page by page

Like any failed read of FUSE the second one is of the page that is wanted and no other. A short answer is never given:
it would be taken for the end.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import trio

from narfs.errors import NarfsError, TooSlow, Unavailable, again
from narfs.formats.erofs.ondisk import BLOCK_BYTES
from narfs.formats.erofs.slab import SlabMap
from narfs.formats.listing import NarListing
from narfs.offsets import FileOffset, NarOffset, NarSpan, SlabOffset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from narfs.mount.scene import Scene
    from narfs.mount.view import Attachment

_NEIGHBOURS_S = 1.0
"""How long a wanted file waits for what the kernel would like to have behind it."""

_ASKED_TWICE_S = 1.0
"""A failed read comes again; the answer is the same, without another wait."""

_SLICE_NODES = 1000
"""Laid out without a turn for anybody else: 0.2 ms."""

_GAP_BYTES = 4096
"""What lies in a NAR between two files, their headers mostly, is read with them up to here: it costs 0.5 µs."""


class Span(NamedTuple):
    """Bytes of one file, from ``start`` on, and where in the answer they go."""

    at: int
    attachment: Attachment
    node: int
    size: int
    start: FileOffset
    nar: NarSpan


class Slab:
    """What one scene has of it: ``ranges`` are first block, number of blocks, and whose NAR is there."""

    def __init__(self, scene: Scene, ranges: Iterable[tuple[int, int, Attachment]]) -> None:
        ordered = sorted(ranges, key=lambda range_: range_[0])
        self._scene = scene
        self._starts = [start * BLOCK_BYTES for start, _, _ in ordered]
        self._attachments = [attachment for _, _, attachment in ordered]
        self._maps: list[SlabMap | None] = [None] * len(ordered)
        self._failed: dict[tuple[Attachment, int], tuple[float, NarfsError]] = {}
        self.size = (ordered[-1][0] + ordered[-1][1]) * BLOCK_BYTES if ordered else 0
        self.read_bytes = 0
        """What was asked for so far."""

    async def spans(self, offset: SlabOffset, size: int) -> list[Span]:
        """Give the files in a range, in order. No checkpoint if the maps reach that far already."""
        spans = []
        end = offset + size
        place = max(bisect_right(self._starts, offset) - 1, 0)
        while place < len(self._starts) and (start := self._starts[place]) < end:
            low, map_ = max(offset, start), self._map(place)
            while not map_.reaches(SlabOffset(end - start)):
                map_.grow(_SLICE_NODES)  # several readers may do so, and none needs to wait for another
                await trio.lowlevel.checkpoint()
            attachment = self._attachments[place]
            for node, length, begin, at, nar in map_.spans(SlabOffset(low - start), end - low):
                spans.append(Span(start + at - offset, attachment, node, length, FileOffset(at - begin), nar))
            place += 1
        return spans

    async def read(self, offset: SlabOffset, size: int) -> bytes:
        """Give ``size`` bytes, or all up to the end; zeros where no file is. Raises what a wanted file failed with."""
        size = min(size, self.size - offset)
        self.read_bytes += size
        spans = await self.spans(offset, size)
        answer = await self._answer(spans, size)
        if spans and not spans[0].start:
            wanted = spans[0]
            self._scene.saw(wanted.attachment, wanted.node, answer[wanted.at : wanted.at + wanted.nar.length])
        return answer

    async def _answer(self, spans: Sequence[Span], size: int) -> bytes:
        if len(spans) == 1 and spans[0].nar.length == size:  # in the middle of a large file: no copy
            _, attachment, node, length, start, nar = spans[0]
            reads = self._scene.reads.of(attachment)
            reads.later(reads.read, node, length, start, size)
            if (data := attachment.accessor.read_nowait(nar.start, size)) is not None:
                return data
            runs: Sequence[Sequence[Span]] = [spans]
        else:
            runs = list(_runs(spans))
            self._scene.reads.later(self._note, runs)
        answer = bytearray(max(size, 0))
        if waiting := [run for run in runs if not _take_nowait(run, answer)]:
            first = spans[0]
            if not first.start and not first.attachment.accessor.is_here(first.nar.start, first.nar.length):
                self._scene.awaits(first.attachment, first.node)
            with self._scene.reads.of(spans[0].attachment).waiting(spans[0].node, spans[0].start, size):
                await self._wait_for(spans[0], waiting, answer)
        return bytes(answer)

    def _note(self, runs: Sequence[Sequence[Span]]) -> None:
        """Note what is asked for: the first file is wanted, others come along, and the last of them may be cut off."""
        for run in runs:
            reads = self._scene.reads.of(run[0].attachment)
            begin, end = 0, len(run)
            if run is runs[0]:
                _, _, node, size, start, nar = run[0]
                reads.read(node, size, start, nar.end - nar.start)
                begin = 1
            _, _, node, size, start, nar = run[-1]
            if begin < end and nar.end - nar.start < size:
                reads.read(node, size, start, nar.end - nar.start, wanted=False)
                end -= 1
            if begin < end:
                nodes = range(run[begin].node, run[end - 1].node + 1)
                reads.came_along(nodes, end - begin, sum([span.size for span in run[begin:end]]))

    async def _wait_for(self, wanted: Span, runs: Sequence[Sequence[Span]], answer: bytearray) -> None:
        """Read what must be waited for; if that is too much, at least what is wanted."""
        key = (wanted.attachment, wanted.node)
        until, failure = self._failed.get(key, (0.0, None))
        if failure is not None and trio.current_time() < until:
            raise again(failure) from failure
        alone = runs == [[wanted]]
        trouble = None if alone else await self._take_all(runs, answer)
        if trouble is None and not alone:
            return
        try:
            await self._take([wanted], answer)
        except NarfsError as error:
            self._remember(key, error)
            raise
        if trouble is not None and not all(_take_nowait(run, answer) for run in runs):
            raise Unavailable(f"{wanted.attachment.path.base_name}: read ahead: {trouble}") from trouble

    async def _take_all(self, runs: Sequence[Sequence[Span]], answer: bytearray) -> NarfsError | None:
        """Read runs, if that takes no longer than a neighbour is worth; say why not."""
        with trio.move_on_after(_NEIGHBOURS_S):
            try:
                for run in runs:
                    await self._take(run, answer)
            except NarfsError as error:
                return error
            return None
        return TooSlow(f"no answer within {_NEIGHBOURS_S:g} s")

    async def _take(self, run: Sequence[Span], answer: bytearray) -> None:
        attachment, start, length = _extent(run)
        read = attachment.accessor.read
        _scatter(run, await self._scene.waits.within(self._scene.read_deadline_s, read, start, length), answer)

    def _remember(self, key: tuple[Attachment, int], error: NarfsError) -> None:
        now = trio.current_time()
        self._failed = {each: failed for each, failed in self._failed.items() if now < failed[0]}
        self._failed[key] = (now + _ASKED_TWICE_S, error)

    def _map(self, place: int) -> SlabMap:
        """Give the map of a NAR, which grows as far as somebody reads: 0.2 µs for each node up to there."""
        map_ = self._maps[place]
        if map_ is None:
            listing = self._attachments[place].accessor.listing
            assert isinstance(listing, NarListing)  # noqa: S101 - its image was made of it
            map_ = self._maps[place] = SlabMap(listing, whole=False)
        return map_


def _runs(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Put together what is close together in one NAR."""
    run: list[Span] = []
    for span in spans:
        if run and (span.attachment is not run[-1].attachment or span.nar.start - run[-1].nar.end > _GAP_BYTES):
            yield run
            run = []
        run.append(span)
    if run:
        yield run


def _extent(run: Sequence[Span]) -> tuple[Attachment, NarOffset, int]:
    start = run[0].nar.start
    return run[0].attachment, start, run[-1].nar.end - start


def _take_nowait(run: Sequence[Span], answer: bytearray) -> bool:
    attachment, start, length = _extent(run)
    data = attachment.accessor.read_nowait(start, length)
    if data is None:
        return False
    _scatter(run, data, answer)
    return True


def _scatter(run: Sequence[Span], data: bytes, answer: bytearray) -> None:
    """Put each file of a run in its place."""
    bytes_ = memoryview(data)
    start = run[0].nar.start
    for span in run:
        answer[span.at : span.at + span.nar.length] = bytes_[span.nar.start - start : span.nar.end - start]
