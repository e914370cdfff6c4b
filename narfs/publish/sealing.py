"""Making sealed blobs: frames are compressed by several threads and written in order."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from narfs.formats.index import NarIndex
from narfs.formats.sealed_blob import FrameSealer, NarCutter, SealedBlob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Executor

    from narfs.formats.listing import NarListing, NodeTable
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.sealed_blob import SealedFrame

_FRAMES_IN_FLIGHT = 16
"""Frames of one NAR (256 KiB each, and what becomes of it) that may wait: 8 MiB at most, work for many threads."""


class FramePress:
    """Compresses the frames of any number of NARs, in ``threads``, or at once where there are none."""

    def __init__(self, level: int, threads: Executor | None = None) -> None:
        self._level = level
        self._threads = threads
        self._idle: list[FrameSealer] = []

    def submit(self, contents: bytes) -> Future[SealedFrame]:
        """Have one frame made."""
        if self._threads:
            return self._threads.submit(self._seal, contents)
        made: Future[SealedFrame] = Future()
        made.set_result(self._seal(contents))
        return made

    def _seal(self, contents: bytes) -> SealedFrame:
        sealer = self._idle.pop() if self._idle else FrameSealer(self._level)
        frame = sealer.seal(contents)
        self._idle.append(sealer)
        return frame


@contextmanager
def frame_press(level: int) -> Iterator[FramePress]:
    """Open a press with as many threads as there are processors, for all paths in flight."""
    threads = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        yield FramePress(level, threads)
    finally:
        threads.shutdown(cancel_futures=True)  # what runs takes some milliseconds: one frame each


class SealedEncoder:
    """An Encoder for the sealed layout. ``tree`` is that of a NarIndexer that takes every piece before this does."""

    def __init__(self, tree: NodeTable, press: FramePress) -> None:
        self._cutter = NarCutter(tree)
        self._press = press
        self._blob = SealedBlob()
        self._waiting: deque[Future[SealedFrame]] = deque()

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take the next bytes of the NAR, give what bytes of the blob are ready."""
        return b"".join(self._advance(self._cutter.feed(bytes(data))))

    def finish(self) -> bytes:
        """Give the rest of the blob."""
        rest = [*self._advance(self._cutter.finish())]
        while self._waiting:
            rest.append(self._blob.add(self._waiting.popleft().result()))
        return b"".join((*rest, self._blob.finish()))

    def index(self, narinfo: NarInfo, listing: NarListing) -> NarIndex:
        """Give the index of the NAR that has passed, after ``finish``."""
        blob = self._blob
        return NarIndex(narinfo.nar_hash, narinfo.nar_size, listing, blob.grid, blob.digests, blob.frames)

    def _advance(self, contents: Iterable[bytes]) -> Iterator[bytes]:
        for each in contents:
            self._waiting.append(self._press.submit(each))
            if len(self._waiting) > _FRAMES_IN_FLIGHT:
                yield self._blob.add(self._waiting.popleft().result())
