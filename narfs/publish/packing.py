"""One pass over a NAR, in hops of a thread: to survey it, or to pack it into a temporary file."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

import trio

from narfs.errors import Corrupt, FormatError
from narfs.formats.digest import Hash
from narfs.publish.nar_dump import dump
from narfs.publish.references import MentionScanner, Survey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from narfs.formats.compression import Encoder
    from narfs.formats.listing import NarListing
    from narfs.formats.nar import NarIndexer
    from narfs.formats.narinfo import NarInfo

HOP_BYTES = 1024 * 1024
"""Work of one thread hop: 76 µs of hopping against at least 2 ms of reading, hashing and compressing."""


class NarSource(Protocol):
    """Where the bytes of a NAR come from."""

    async def pass_over(self, feed: Callable[[bytes], None], progress: Callable[[int], None]) -> None:
        """Feed the whole NAR, in a thread; ``progress`` is told the bytes of each hop."""

    def blame(self, found: str) -> Corrupt:
        """Make the error for bytes that are not the expected ones."""


class LocalTree(NamedTuple):
    """A file or directory of this machine."""

    root: Path

    async def pass_over(self, feed: Callable[[bytes], None], progress: Callable[[int], None]) -> None:
        """Feed its NAR."""
        with closing(dump(os.fsencode(self.root))) as pieces:
            while passed := await trio.to_thread.run_sync(_hop, pieces, feed):
                progress(passed)

    def blame(self, found: str) -> Corrupt:
        """Say that it is not what it was."""
        return Corrupt(f"{self.root}: changed while it was pushed, or is damaged: {found}")


class Packed(NamedTuple):
    """A compressed NAR: ``file`` has no name and is gone when closed."""

    file: IO[bytes]
    file_hash: Hash
    file_size: int
    listing: NarListing

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Read the blob from its beginning, each time it is asked to: a request that failed is sent again."""
        self.file.seek(0)
        while piece := await trio.to_thread.run_sync(self.file.read, HOP_BYTES):
            yield piece


async def survey(name: str, root: Path, progress: Callable[[int], None]) -> Survey:
    """Learn what a tree's name in the store follows from; ``progress`` is told the NAR bytes of each hop."""
    digest, scanner, size = hashlib.sha256(), MentionScanner(), 0

    def feed(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        digest.update(piece)
        scanner.feed(piece)

    await LocalTree(root).pass_over(feed, progress)
    return Survey(name, digest.digest(), size, frozenset(scanner.hash_parts))


async def pack(
    expected: NarInfo,
    source: NarSource,
    indexer: NarIndexer,
    encoder: Encoder,
    file: IO[bytes],
    *,
    progress: Callable[[int], None],
) -> Packed:
    """Compress into ``file``, each piece after the indexer took it; Corrupt if the NAR is not the expected one."""
    nar, blob = hashlib.sha256(), hashlib.sha256()

    def keep(compressed: bytes) -> None:
        blob.update(compressed)
        file.write(compressed)

    def feed(piece: bytes) -> None:
        nar.update(piece)
        indexer.feed(piece)
        keep(encoder.feed(piece))

    try:
        await source.pass_over(feed, progress)
        listing = indexer.finish()
    except FormatError as error:
        raise source.blame(str(error)) from error
    if nar.digest() != expected.nar_hash:
        found, promised = Hash("sha256", nar.digest()), Hash("sha256", expected.nar_hash)
        raise source.blame(f"{found.nix32}, not {promised.nix32}")
    await trio.to_thread.run_sync(lambda: keep(encoder.finish()))
    return Packed(file, Hash("sha256", blob.digest()), file.tell(), listing)


def _hop(pieces: Iterator[bytes], feed: Callable[[bytes], None]) -> int:
    """Feed the next HOP_BYTES or what is left, framing and small files joined; give how much it was."""
    batch, size = [], 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= HOP_BYTES:
            break
    if size:
        feed(b"".join(batch))
    return size
