"""Sealing lakes that exist: each NAR is streamed once and compared with its NarHash, then its index is signed.

In place the blob stays as it is and gets an index, of its frames if it has any, and its narinfo one line more. Into
another lake it is copied in the sealed layout; the signatures it has cover the NarHash and stay valid.

A path that fails is told of at the end and stops nothing but what refers to it, if that is copied too. What is sealed
by the same key already is left alone, so a second run does what is missing.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import trio

from narfs.engine.ingest import Ingest
from narfs.errors import Corrupt, FormatError, NarfsError, NotFound, Unavailable, Untrusted
from narfs.formats.cache_info import CacheInfo
from narfs.formats.compression import ZSTD_LEVEL, decoder
from narfs.formats.digest import Hash
from narfs.formats.seal import seal, unseal
from narfs.formats.signature import PublicKeys
from narfs.publish.parcel import Meter, Parcel, for_each, publish, sealing_threads
from narfs.publish.references import references_first

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from narfs.engine.means import Described
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import SecretKey
    from narfs.formats.store_path import StorePath
    from narfs.lake.binary_cache import BinaryCache
    from narfs.publish.parcel import Progress


@dataclass(frozen=True, slots=True)
class SealedPath:
    """One path of the report; ``error`` says what failed."""

    path: str
    """In full, or only its hash where no narinfo could be read."""
    status: Literal["sealed", "present", "failed"]
    nar_size: int
    error: str | None = None


async def seal_lake(
    members: Sequence[Described],
    key: SecretKey,
    *,
    to: BinaryCache | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> list[SealedPath]:
    """Seal paths whose narinfos are trusted, in their lakes or into ``to``; the report has references first."""
    by_path = {member.narinfo.path: member for member in members}
    order = references_first({path: member.narinfo.references for path, member in by_path.items()})
    meter = Meter(progress, sum(member.narinfo.nar_size for member in members))
    with sealing_threads() as threads:
        sealer = _Sealer(key, to, meter, threads, order)
        if to is not None and not await to.has_info():
            await to.put_info(CacheInfo(want_mass_query=True))
        # What a path waits for was begun before it, so it is never behind it in the queue: there is no deadlock.
        await for_each((by_path[path] for path in order), sealer.seal, at_once=os.cpu_count() or 1)
    return [sealer.done[path] for path in order]


class _Sealer:
    """What is common to all paths of one run."""

    def __init__(
        self, key: SecretKey, to: BinaryCache | None, meter: Meter, threads: Executor, order: Sequence[StorePath]
    ) -> None:
        self._key = key
        self._to = to
        self._meter = meter
        self._threads = threads
        self._ended = {path: trio.Event() for path in order}
        self.done: dict[StorePath, SealedPath] = {}

    async def seal(self, member: Described) -> None:
        """Seal one path, and note what came of it."""
        narinfo = member.narinfo
        advance = self._meter.subject(narinfo.path.name)
        status: Literal["sealed", "present", "failed"] = "sealed"
        error = None
        try:
            if await self._is_sealed(self._to or member.lake, narinfo):
                status = "present"
                advance(narinfo.nar_size)
            elif self._to is None:
                await self._seal_in_place(member, advance)
            else:
                await self._copy(member, self._to, advance)
        except NarfsError as failure:
            status, error = "failed", str(failure)
        self.done[narinfo.path] = SealedPath(narinfo.path.path, status, narinfo.nar_size, error)
        self._ended[narinfo.path].set()

    async def _is_sealed(self, lake: BinaryCache, narinfo: NarInfo) -> bool:
        """Whether the lake has an index of this path that our key signed, and that fits."""
        try:
            there = await lake.narinfo(narinfo.path.hash_part)
            if there.index_name is None or (there.path, there.nar_hash) != (narinfo.path, narinfo.nar_hash):
                return False
            data = await lake.sealed_index(there)
            await trio.to_thread.run_sync(unseal, data, there, PublicKeys((self._key.public,)))
        except (NotFound, Corrupt, FormatError, Untrusted):
            return False
        return True

    async def _seal_in_place(self, member: Described, advance: Callable[[int], None]) -> None:
        """Index the blob as it is. What a narinfo says of its blob is a hint; now it is known."""
        with ThreadPoolExecutor(1) as digests:
            stream = _Stream(member, digests)
            await stream.run(advance)
        narinfo = replace(member.narinfo, file_hash=stream.file_hash, file_size=stream.file_size)
        narinfo = narinfo.with_index(f"{narinfo.path.hash_part}.narfs")
        data = await trio.to_thread.run_sync(seal, stream.index, narinfo, [self._key])
        await member.lake.put_sealed_index(narinfo, data)
        await member.lake.put_narinfo(narinfo)

    async def _copy(self, member: Described, to: BinaryCache, advance: Callable[[int], None]) -> None:
        narinfo = replace(member.narinfo, compression="zstd", file_hash=None, file_size=None)
        parcel = Parcel(narinfo, _LakeNar(member), ZSTD_LEVEL, self._key)
        await publish(to, parcel, self._threads, advance, partial(self._wait_for_references, to))

    async def _wait_for_references(self, to: BinaryCache, narinfo: NarInfo) -> None:
        for reference in set(narinfo.references) - {narinfo.path}:
            if reference in self._ended:
                await self._ended[reference].wait()
                if self.done[reference].status == "failed":
                    raise Unavailable(f"refers to {reference.path}, which failed")
            elif not await to.has_narinfo(reference.hash_part):
                raise Unavailable(f"refers to {reference.path}, which {to.url} does not have: use --closure")


class _Stream:
    """One blob, streamed and compared; then ``index``, ``file_hash`` and ``file_size`` are known."""

    def __init__(self, member: Described, digests: Executor) -> None:
        narinfo = member.narinfo
        self._member = member
        self._ingest = Ingest(
            compression=narinfo.compression, nar_hash=narinfo.nar_hash, nar_size=narinfo.nar_size, threads=digests
        )
        self._blob = hashlib.sha256()
        self.file_size = 0

    async def run(self, advance: Callable[[int], None]) -> None:
        try:
            async with self._member.lake.open_blob(self._member.narinfo) as pieces:
                async for data in pieces:
                    advance(await trio.to_thread.run_sync(self._feed, data))
            self.index = await trio.to_thread.run_sync(self._ingest.finish)
        finally:
            self._ingest.abandon()
        self.file_hash = Hash("sha256", self._blob.digest())

    def _feed(self, data: bytes) -> int:
        self.file_size += len(data)
        self._blob.update(data)
        return sum(map(len, self._ingest.feed(data)))


@dataclass(frozen=True, slots=True)
class _LakeNar:
    """A NAR in a lake, as the source of a copy."""

    member: Described

    async def pass_over(self, feed: Callable[[bytes], None], progress: Callable[[int], None]) -> None:
        """Stream the blob."""
        lake, narinfo = self.member.lake, self.member.narinfo
        decode = decoder(narinfo.compression, nar_size=narinfo.nar_size)

        def advance(data: bytes) -> int:
            passed = 0
            for piece in decode.feed(data):
                feed(piece)
                passed += len(piece)
            return passed

        async with lake.open_blob(narinfo) as pieces:
            async for data in pieces:
                progress(await trio.to_thread.run_sync(advance, data))
        decode.finish()

    def blame(self, found: str) -> Corrupt:
        """Say that the lake has another NAR than it was signed for."""
        return Corrupt(f"the NAR in {self.member.lake.url} is damaged: {found}")
