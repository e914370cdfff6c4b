"""Sealed indexes of blobs as they are: made in one pass, and found again."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from narfs.engine.ingest import Ingest
from narfs.errors import Corrupt, FormatError, NotFound, Untrusted
from narfs.formats.digest import Hash
from narfs.formats.seal import index_name, seal, unseal
from narfs.formats.signature import PublicKeys

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from narfs.engine.means import Described
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.signature import SecretKey
    from narfs.lake.binary_cache import BinaryCache

NO_INDEX = (NotFound, Corrupt, FormatError, Untrusted)
"""What is raised where there is no index, or none that counts."""


async def has_own_index(lake: BinaryCache, narinfo: NarInfo, key: SecretKey) -> bool:
    """Whether ``lake`` has the index that ``narinfo`` tells of, it fits, and ``key`` signed it."""
    try:
        data = await lake.sealed_index(narinfo)
        await trio.to_thread.run_sync(unseal, data, narinfo, PublicKeys((key.public,)))
    except NO_INDEX:
        return False
    return True


async def put_index(lake: BinaryCache, member: Described, key: SecretKey, advance: Callable[[int], None]) -> NarInfo:
    """Stream the NAR of ``member``, compare it with its NarHash, and write its index into ``lake``.

    Gives the narinfo that tells of it. What a narinfo says of its blob is a hint; in this one it is known.
    """
    with ThreadPoolExecutor(1) as digests:
        stream = _Stream(member, digests)
        await stream.run(advance)
    narinfo = replace(member.narinfo, file_hash=stream.file_hash, file_size=stream.file_size)
    narinfo = narinfo.with_index(index_name(narinfo.path))
    await lake.put_sealed_index(narinfo, await trio.to_thread.run_sync(seal, stream.index, narinfo, [key]))
    return narinfo


def accusation(member: Described) -> str:
    """Say which lake has another NAR than was signed; what was found is to follow."""
    return f"the NAR in {member.lake.url} is damaged"


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
        except (Corrupt, FormatError) as error:
            raise Corrupt(f"{accusation(self._member)}: {error}") from error
        finally:
            self._ingest.abandon()
        self.file_hash = Hash("sha256", self._blob.digest())

    def _feed(self, data: bytes) -> int:
        self.file_size += len(data)
        self._blob.update(data)
        return sum(map(len, self._ingest.feed(data)))
