"""One forward pass over a blob, without I/O: compressed bytes in, NAR pieces out, and at the end the NarIndex.

Data flows through four stages. The first, second and fourth are C code that releases the interpreter lock, so digests
are made in a thread of the ingest while the next piece is being decompressed::

    feed(blob bytes) → Decoder → piece ─┬→ NarIndexer (tree)
                                        ├→ digests: sha256 of the NAR and of each chunk (thread)
                                        └→ caller, who writes the piece where the NAR is kept

Nothing is believed before ``finish``: it compares size and NarHash and only then gives a NarIndex.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING

from narfs.errors import Corrupt
from narfs.formats.compression import decoder
from narfs.formats.index import NarIndex
from narfs.formats.nar import NarIndexer
from narfs.offsets import ChunkGrid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor, Future

    from narfs.formats.nar import Root

_PIECES_IN_FLIGHT = 8
"""Pieces (≤ 1 MiB each) that may wait for their digest: bounds an ingest's memory at about 8 MiB."""


class Digests:
    """The sha256 of a NAR and of each of its chunks, fed in any pieces."""

    def __init__(self, grid: ChunkGrid) -> None:
        self._grid = grid
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._left = grid.chunk_bytes
        self.chunks = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the NAR."""
        self._whole.update(piece)
        view = memoryview(piece)
        while view:
            part, view = view[: self._left], view[self._left :]
            self._chunk.update(part)
            self._left -= len(part)
            if self._left == 0:
                self._close_chunk()

    def finish(self) -> bytes:
        """Close the last chunk and give the digest of the whole NAR."""
        if self._left < self._grid.chunk_bytes:
            self._close_chunk()
        return self._whole.digest()

    def _close_chunk(self) -> None:
        self.chunks += self._chunk.digest()
        self._chunk = hashlib.sha256()
        self._left = self._grid.chunk_bytes


class Ingest:
    """One pass over one blob.

    ``threads`` runs the digests; it needs one thread to keep their order and is the caller's to shut down.
    """

    def __init__(self, *, compression: str, nar_hash: bytes, nar_size: int, threads: Executor) -> None:
        self.nar_hash = nar_hash
        self.nar_size = nar_size
        self.passed = 0
        """NAR bytes that have left the decoder."""
        self.indexer = NarIndexer(nar_size)
        self._grid = ChunkGrid(nar_size)
        self._decoder = decoder(compression, nar_size=nar_size)
        self._digests = Digests(self._grid)
        self._threads = threads
        self._hashing: deque[Future[None]] = deque()

    @property
    def root(self) -> Root | None:
        """The root node as the NAR claims it, as soon as its first bytes have passed."""
        return self.indexer.root

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes of the blob, give pieces of the NAR in order; FormatError for what no NAR may hold."""
        for piece in self._decoder.feed(data):
            if len(self._hashing) >= _PIECES_IN_FLIGHT:
                self._hashing.popleft().result()
            self._hashing.append(self._threads.submit(self._digests.feed, piece))
            self.indexer.feed(piece)
            self.passed += len(piece)
            yield piece

    def finish(self) -> NarIndex:
        """Compare everything and give the index; Corrupt if size or NarHash differ, FormatError if the NAR is cut."""
        self._decoder.finish()
        while self._hashing:
            self._hashing.popleft().result()
        found = self._digests.finish()
        if self.passed != self.nar_size:
            raise Corrupt(f"the blob holds {self.passed} bytes of NAR where the narinfo promises {self.nar_size}")
        if found != self.nar_hash:
            raise Corrupt(f"the NAR's sha256 is {found.hex()} where the narinfo promises {self.nar_hash.hex()}")
        return NarIndex(
            nar_hash=self.nar_hash,
            nar_size=self.nar_size,
            listing=self.indexer.finish(),
            grid=self._grid,
            digests=bytes(self._digests.chunks),
            frames=self._decoder.frames(),
        )

    def abandon(self) -> None:
        """Wait for digests in flight, so that nothing touches the pieces of an ingest that ended early."""
        while self._hashing:
            self._hashing.popleft().cancel()
