"""Making sealed blobs: frames are compressed by several threads and written in order."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from narfs.formats.index import NarIndex
from narfs.formats.sealed_blob import NarCutter, SealedBlob, seal_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Executor, Future

    from narfs.formats.listing import NarListing, NodeTable
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.sealed_blob import SealedFrame

_FRAMES_IN_FLIGHT = 16
"""Frames of one NAR (256 KiB each, and what becomes of it) that may wait: 8 MiB at most, work for many threads."""


class SealedEncoder:
    """An Encoder for the sealed layout. ``tree`` is that of a NarIndexer that takes every piece before this does.

    ``threads`` may be shared by many encoders and is the caller's to shut down.
    """

    def __init__(self, tree: NodeTable, level: int, threads: Executor) -> None:
        self._cutter = NarCutter(tree)
        self._level = level
        self._threads = threads
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
            self._waiting.append(self._threads.submit(seal_frame, each, self._level))
            if len(self._waiting) > _FRAMES_IN_FLIGHT:
                yield self._blob.add(self._waiting.popleft().result())
