"""One pass over a local file or directory, in hops of a thread: to survey it, or to pack it into a temporary file."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NamedTuple

import trio

from narfs.engine.nar_dump import dump
from narfs.engine.references import MentionScanner, Survey
from narfs.errors import Corrupt, FormatError
from narfs.formats.digest import Hash
from narfs.formats.nar import NarIndexer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from narfs.formats.compression import Encoder
    from narfs.formats.listing import NarListing

HOP_BYTES = 1024 * 1024
"""Work of one thread hop: 76 µs of hopping against at least 2 ms of reading, hashing and compressing."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the NAR of ``root`` must turn out to be."""

    root: Path
    nar_hash: bytes
    nar_size: int


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

    await _pass_over(root, feed, progress)
    return Survey(name, digest.digest(), size, frozenset(scanner.hash_parts))


async def pack(expected: Expected, encoder: Encoder, file: IO[bytes], progress: Callable[[int], None]) -> Packed:
    """Compress into ``file``; Corrupt if the NAR is not the expected one."""
    nar, blob, indexer = hashlib.sha256(), hashlib.sha256(), NarIndexer(expected.nar_size)

    def keep(compressed: bytes) -> None:
        blob.update(compressed)
        file.write(compressed)

    def feed(piece: bytes) -> None:
        nar.update(piece)
        indexer.feed(piece)
        keep(encoder.feed(piece))

    try:
        await _pass_over(expected.root, feed, progress)
        listing = indexer.finish()
    except FormatError as error:
        raise Corrupt(f"{expected.root}: changed while it was pushed, or is damaged: {error}") from error
    if nar.digest() != expected.nar_hash:
        found, promised = Hash("sha256", nar.digest()), Hash("sha256", expected.nar_hash)
        raise Corrupt(
            f"{expected.root}: changed while it was pushed, or is damaged: {found.nix32}, not {promised.nix32}"
        )
    keep(encoder.finish())
    return Packed(file, Hash("sha256", blob.digest()), file.tell(), listing)


async def _pass_over(root: Path, feed: Callable[[bytes], None], progress: Callable[[int], None]) -> None:
    with closing(dump(os.fsencode(root))) as pieces:
        while passed := await trio.to_thread.run_sync(_hop, pieces, feed):
            progress(passed)


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
