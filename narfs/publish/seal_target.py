"""Where seals go: beside their blobs, into a lake of indexes, or with copies of the blobs into another lake."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from narfs.errors import Corrupt, NotFound
from narfs.formats.compression import ZSTD_LEVEL, decoder
from narfs.formats.seal import index_name, open_head, unseal
from narfs.formats.signature import PublicKeys
from narfs.publish.indexing import NO_INDEX, accusation, has_own_index, put_index
from narfs.publish.packing import Parcel, with_blob
from narfs.publish.sending import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from narfs.engine.means import Described
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import SecretKey
    from narfs.lake.binary_cache import BinaryCache
    from narfs.publish.sealing import FramePress


class SealTarget(Protocol):
    """What becomes of the paths of one run."""

    @property
    def passes(self) -> int:
        """How often ``take`` tells each byte of a NAR."""
        ...

    async def has(self, member: Described) -> bool:
        """Whether nothing is to be done: our key has sealed it."""
        ...

    async def take(
        self,
        member: Described,
        advance: Callable[[int], None],
        wait_for_references: Callable[[NarInfo], Awaitable[None]],
    ) -> None:
        """Seal it; ``advance`` is told the NAR bytes that have passed, ``passes`` times."""
        ...


@dataclass(frozen=True, slots=True)
class InPlace:
    """The blob stays as it is and gets an index, of its frames if it has any, and its narinfo one line more."""

    key: SecretKey
    passes: int = 1

    async def has(self, member: Described) -> bool:
        """Look at the narinfo as it is now."""
        return await _has_narinfo(member.lake, member.narinfo, self.key)

    async def take(
        self,
        member: Described,
        advance: Callable[[int], None],
        wait_for_references: Callable[[NarInfo], Awaitable[None]],  # noqa: ARG002 - they are where they were
    ) -> None:
        """Write index, then narinfo."""
        await member.lake.put_narinfo(await put_index(member.lake, member, self.key, advance))


@dataclass(frozen=True, slots=True)
class IndexLake:
    """A lake of indexes alone, for one that is not ours and is not written."""

    lake: BinaryCache
    key: SecretKey
    passes: int = 1

    async def has(self, member: Described) -> bool:
        """Look for an index that fits the narinfo at hand."""
        return await has_own_index(self.lake, _indexed(member.narinfo), self.key)

    async def take(
        self,
        member: Described,
        advance: Callable[[int], None],
        wait_for_references: Callable[[NarInfo], Awaitable[None]],  # noqa: ARG002 - an index needs none
    ) -> None:
        """Write the index."""
        await put_index(self.lake, member, self.key, advance)


@dataclass(frozen=True, slots=True)
class CopyLake:
    """Another lake, in the sealed layout. The signatures that a path has cover the NarHash and stay valid."""

    lake: BinaryCache
    key: SecretKey
    press: FramePress
    packing: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(os.cpu_count() or 1))
    passes: int = 2

    async def has(self, member: Described) -> bool:
        """Look for narinfo and index."""
        return await _has_narinfo(self.lake, member.narinfo, self.key)

    async def take(
        self,
        member: Described,
        advance: Callable[[int], None],
        wait_for_references: Callable[[NarInfo], Awaitable[None]],
    ) -> None:
        """Copy the NAR, unless an earlier run has and only the narinfo is missing."""
        narinfo = replace(member.narinfo, compression="zstd", file_hash=None, file_size=None)
        copied = await self._copied(_indexed(narinfo))
        if copied is None:
            parcel = Parcel(narinfo, accusation(member), ZSTD_LEVEL, None, self.key)
            feeder = partial(_feed_from_lake, member)
            copied = await publish(self.lake, parcel, feeder, press=self.press, packing=self.packing, advance=advance)
        else:
            advance(narinfo.nar_size * self.passes)
        await wait_for_references(copied)
        await self.lake.put_narinfo(copied)

    async def _copied(self, narinfo: NarInfo) -> NarInfo | None:
        """Complete the narinfo of a path whose blob and index are in the lake; None if they are not."""
        try:
            data = await self.lake.sealed_index(narinfo)
            copied = await trio.to_thread.run_sync(_with_blob_of, data, narinfo, PublicKeys((self.key.public,)))
        except NO_INDEX:
            return None
        return copied if copied is not None and await self.lake.has_blob(copied.url) else None


async def _feed_from_lake(member: Described, feed: Callable[[bytes], None], advance: Callable[[int], None]) -> None:
    """Stream a blob and feed its NAR."""
    lake, narinfo = member.lake, member.narinfo
    decode = decoder(narinfo.compression, nar_size=narinfo.nar_size)

    def hop(data: bytes) -> int:
        passed = 0
        for piece in decode.feed(data):
            feed(piece)
            passed += len(piece)
        return passed

    async with lake.open_blob(narinfo) as pieces:
        async for data in pieces:
            advance(await trio.to_thread.run_sync(hop, data))
    decode.finish()


async def _has_narinfo(lake: BinaryCache, narinfo: NarInfo, key: SecretKey) -> bool:
    """Whether the lake has that path, and the narinfo there tells of an index of ours."""
    try:
        there = await lake.narinfo(narinfo.path.hash_part)
    except (NotFound, Corrupt):
        return False
    same = (there.path, there.nar_hash) == (narinfo.path, narinfo.nar_hash)
    return same and there.index_name is not None and await has_own_index(lake, there, key)


def _indexed(narinfo: NarInfo) -> NarInfo:
    return narinfo.with_index(index_name(narinfo.path))


def _with_blob_of(data: bytes, narinfo: NarInfo, keys: PublicKeys) -> NarInfo | None:
    """Complete a narinfo with the blob whose frames an index has; None if it has none."""
    _, file_hash, file_size = open_head(data, narinfo, keys).blob
    copied = with_blob(narinfo, file_hash, file_size)
    return None if unseal(data, copied, keys).frames is None else copied
