"""Publishing: compressed NARs, listings, sealed indexes and narinfos into a lake, in an order that survives a crash.

What a reader of the lake may rely on: a narinfo is there only when its blob and its index are, and only when the
narinfos of all it refers to are. So a path is published blob first, then ``.ls``, then the sealed index, then the
narinfo; and the narinfo waits for those of its references.

The compressed NAR lies in a temporary file in between, because a lake wants its hash for a name and its length in
front; memory is bounded by some MiB for each path in flight.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import trio

from narfs.errors import NarfsError
from narfs.formats import base32
from narfs.formats.compression import KNOWN, encoder
from narfs.formats.ls import to_ls
from narfs.formats.nar import NarIndexer
from narfs.formats.seal import index_name, seal
from narfs.publish.packing import pack
from narfs.publish.sealing import SealedEncoder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from narfs.formats.digest import Hash
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import SecretKey
    from narfs.lake.binary_cache import BinaryCache
    from narfs.publish.packing import NarSource

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is, in NAR bytes; ``total_bytes`` is None while trees are read to be named."""

    subject: str
    done_bytes: int
    total_bytes: int | None


class Meter:
    """Adds up the NAR bytes of all passes that go on at once."""

    def __init__(self, progress: Callable[[Progress], None], total_bytes: int | None) -> None:
        self._progress = progress
        self._total_bytes = total_bytes
        self._done_bytes = 0

    def subject(self, name: str) -> Callable[[int], None]:
        """Give the function that counts what passes of ``name``."""

        def advance(passed: int) -> None:
            self._done_bytes += passed
            self._progress(Progress(name, self._done_bytes, self._total_bytes))

        return advance


@dataclass(frozen=True, slots=True)
class Parcel:
    """A path on its way into a lake; of ``narinfo`` all but the blob's name, hash and size is known."""

    narinfo: NarInfo
    nar: NarSource
    level: int
    index_key: SecretKey | None
    """The blob gets the sealed layout, and an index signed with this key; None: one frame, no index."""


def with_blob(narinfo: NarInfo, file_hash: Hash, file_size: int) -> NarInfo:
    """Complete a narinfo; its signatures do not cover what changes."""
    url = f"nar/{base32.encode(file_hash.digest)}.nar{KNOWN[narinfo.compression]}"
    return replace(narinfo, url=url, file_hash=file_hash, file_size=file_size)


@contextmanager
def sealing_threads() -> Iterator[Executor]:
    """Open the threads that compress frames: as many as there are processors, shared by all paths in flight."""
    threads = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)  # what runs takes some milliseconds: one frame each


async def publish(
    target: BinaryCache,
    parcel: Parcel,
    threads: Executor,
    progress: Callable[[int], None],
    wait_for_references: Callable[[NarInfo], Awaitable[None]],
) -> NarInfo:
    """Bring one path into the lake and give the narinfo it has there; Corrupt if its NAR is not the expected one."""
    indexer = NarIndexer(parcel.narinfo.nar_size)
    key = parcel.index_key
    sealing = SealedEncoder(indexer.builder, parcel.level, threads) if key else None
    encode = sealing or encoder(parcel.narinfo.compression, level=parcel.level)
    with tempfile.TemporaryFile() as file:
        packed = await pack(parcel.narinfo, parcel.nar, indexer, encode, file, progress=progress)
        narinfo = with_blob(parcel.narinfo, packed.file_hash, packed.file_size)
        if not await target.has_blob(narinfo.url):
            await target.put_blob(narinfo.url, packed, packed.file_size)
    hash_part = narinfo.path.hash_part
    await target.put_listing(hash_part, await trio.to_thread.run_sync(to_ls, packed.listing))
    if sealing and key:
        narinfo = narinfo.with_index(index_name(narinfo.path))
        index = sealing.index(narinfo, packed.listing)
        await target.put_sealed_index(narinfo, await trio.to_thread.run_sync(seal, index, narinfo, [key]))
    await wait_for_references(narinfo)
    await target.put_narinfo(narinfo)
    return narinfo


async def for_each(items: Iterable[T], do: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Do it for every item, begun in order; the first failure cancels the others and is raised."""
    queue = iter(items)
    failures: list[NarfsError] = []

    async def work() -> None:
        for item in queue:
            try:
                await do(item)
            except NarfsError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)
    if failures:
        raise failures[0]
