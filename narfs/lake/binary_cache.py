"""BinaryCache: one lake in the words of Nix. What it gives is parsed and confined, not yet trusted."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from narfs.errors import Corrupt, FormatError, NarfsError, NotFound, OverQuota, TooSlow, Unavailable, UsageError
from narfs.formats.cache_info import DEFAULT_PRIORITY, MAX_CACHE_INFO_BYTES, CacheInfo
from narfs.formats.narinfo import MAX_NARINFO_BYTES, NarInfo
from narfs.formats.profile_object import MAX_PROFILE_BYTES, object_name
from narfs.formats.seal import MAX_INDEX_BYTES
from narfs.formats.store_path import HASH_PART, STORE_DIR
from narfs.lake.account import BlobPlace, paid, paid_stream
from narfs.lake.outage import Outage
from narfs.lake.transport import CACHE_INFO, FROM_THE_START
from narfs.offsets import BlobOffset

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Mapping

    from narfs.lake.store_url import StoreUrl
    from narfs.lake.transport import Transport, TransportStatistics

_log = logging.getLogger(__name__)

MAX_LISTING_BYTES = 256 * 1024 * 1024
"""About 100 bytes an entry: a NAR of two million files."""

_NARINFO = ".narinfo"

_TROUBLE_MEMORY_S = 1.0


class BinaryCache:
    """One lake. Nothing is asked of it before ``info``, which every read of a narinfo waits for.

    With a nursery it is noticed there when the lake is down (``outage``); ``patience_s`` is that of a stalled stream.
    """

    def __init__(
        self,
        url: StoreUrl,
        transport: Transport,
        domain: bytes = b"",
        *,
        nursery: trio.Nursery | None = None,
        patience_s: float = 30.0,
    ) -> None:
        self.url = url
        """Prints as the canonical text, without parameters and credentials."""
        self.domain = domain
        """What it gives is kept where only lakes of this domain find it; empty: the common one."""
        self._transport = transport
        self._info: CacheInfo | None = None
        self._info_turn = trio.Lock()
        self._info_trouble: Unavailable | None = None
        self._info_trouble_at = self._info_trouble_until = 0.0
        self.outage = Outage(
            str(url),
            lambda: self._greeting(transport.get(CACHE_INFO, max_bytes=MAX_CACHE_INFO_BYTES)),
            lambda: transport.statistics().received_bytes_total,
            patience_s=patience_s,
            nursery=nursery,
        )

    @property
    def keeps_as(self) -> str:
        """Under what its narinfos are kept."""
        return f"{self.url}#{self.domain.hex()}" if self.domain else str(self.url)

    @property
    def priority(self) -> int:
        """The lower, the earlier this lake is asked; Nix's default until the lake has told."""
        if self.url.priority is not None:
            return self.url.priority
        return DEFAULT_PRIORITY if self._info is None else self._info.priority

    @property
    def knows_priority(self) -> bool:
        """Whether ``priority`` is final."""
        return self.url.priority is not None or self._info is not None

    @property
    def trouble(self) -> Unavailable | None:
        """Why nix-cache-info could not be read when that was last tried."""
        if self._info is not None:
            return None
        return self._info_trouble or self.outage.trouble

    async def info(self) -> CacheInfo:
        """Read nix-cache-info, once. UsageError if the lake is for another store directory than /nix/store.

        Trouble is remembered for as long as it took to find out (at least a second), or until the lake has answered
        anything: waiting for a dead lake is not begun again by everybody who waited.
        """
        if self._info is None:
            with self.outage.asking():
                async with self._info_turn:
                    if self._info is None:
                        self._info = await self._first_info()
        return self._info

    async def narinfo(self, hash_part: str) -> NarInfo:
        """Read the narinfo of the store path with that hash part.

        NotFound if the lake does not have it, Corrupt if it is not in its format, Untrusted if its URL leads out of the
        lake.
        """
        name = f"{hash_part}.narinfo"
        with self.outage.asking():
            await self.info()
            data = await paid(self._transport.get(name, max_bytes=MAX_NARINFO_BYTES))
            try:
                narinfo = NarInfo.parse(data, expect=hash_part)
            except FormatError as error:
                raise Corrupt(f"{self.url}/{name}: {error}") from error
        self.url.name_of(narinfo.url)
        return narinfo

    async def listing(self, hash_part: str) -> bytes:
        """Read the ``.ls`` of a store path as it is: an unsigned hint."""
        with self.outage.asking():
            await self.info()
            return await paid(self._transport.get(f"{hash_part}.ls", max_bytes=MAX_LISTING_BYTES))

    async def sealed_index(self, narinfo: NarInfo) -> bytes:
        """Read the sealed index that the narinfo tells of, as it is; Untrusted if that leads out of the lake."""
        name = self.url.name_of(narinfo.index_name or "")
        with self.outage.asking():
            return await paid(self._transport.get(name, max_bytes=MAX_INDEX_BYTES))

    async def index_beginning(self, name: str, length: int) -> bytes:
        """Read the first ``length`` bytes of a sealed index, or all; Untrusted if ``name`` leads out of the lake."""
        name = self.url.name_of(name)
        with self.outage.asking():
            return await paid(self._transport.read_beginning(name, length))

    async def read_index(self, name: str, start: int, length: int) -> bytes:
        """Read exactly ``length`` bytes of a sealed index."""
        name = self.url.name_of(name)
        with self.outage.asking(patient=True):
            return await paid(self._transport.read_range(name, BlobOffset(start), length))

    async def profile(self, name: str) -> bytes:
        """Read the object of the profile of that name as it is; NotFound."""
        await self.info()
        return await paid(self._transport.get(object_name(name), max_bytes=MAX_PROFILE_BYTES))

    @asynccontextmanager
    async def open_blob(
        self, narinfo: NarInfo, start: BlobOffset = FROM_THE_START, *, patient: bool = True
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the compressed NAR from byte ``start``, as pieces of up to 1 MiB; ``patient`` as in ``outage``.

        A blob that is absent although its narinfo is there is Unavailable: the store path does exist.
        """
        name = self.url.name_of(narinfo.url)
        async with AsyncExitStack() as stack:
            try:
                with self.outage.asking(patient=patient):
                    stream = self._transport.stream(name, start=start)
                    pieces = await stack.enter_async_context(paid_stream(stream, _place(narinfo, start)))
            except NotFound as error:
                raise self._lost(narinfo) from error
            yield pieces

    async def read_blob(self, narinfo: NarInfo, start: BlobOffset, length: int, *, patient: bool = True) -> bytes:
        """Read exactly ``length`` bytes of the compressed NAR; what is absent is Unavailable."""
        name = self.url.name_of(narinfo.url)
        try:
            with self.outage.asking(patient=patient):
                return await paid(self._transport.read_range(name, start, length), _place(narinfo, start))
        except NotFound as error:
            raise self._lost(narinfo) from error

    async def has_info(self) -> bool:
        """Whether the place says that it is a lake; False for an empty directory or bucket."""
        return await self._transport.exists(CACHE_INFO)

    async def has_narinfo(self, hash_part: str) -> bool:
        """Whether the lake has that store path."""
        return await self._transport.exists(f"{hash_part}.narinfo")

    async def hash_parts(self) -> list[str]:
        """List the store paths that the lake has; UsageError where nobody can."""
        names = [name.removesuffix(_NARINFO) for name in await self._transport.names(_NARINFO)]
        return [name for name in names if HASH_PART.fullmatch(name)]

    async def has_blob(self, name: str) -> bool:
        """Whether there is an object under the URL ``name`` of a narinfo."""
        return await self._transport.exists(self.url.name_of(name))

    async def put_info(self, info: CacheInfo) -> None:
        """Write nix-cache-info: what makes a place a lake."""
        await self._put(CACHE_INFO, info.to_bytes())
        self._info = info

    async def put_narinfo(self, narinfo: NarInfo) -> None:
        """Write a narinfo. From then on the store path exists: its blob and its references come before."""
        await self.put_narinfos([narinfo])

    async def put_narinfos(self, narinfos: Iterable[NarInfo]) -> None:
        """Write narinfos of paths that do not refer to each other at the same time."""
        await self._transport.put_small({f"{one.path.hash_part}.narinfo": one.to_bytes() for one in narinfos})

    async def put_sealed_index(self, narinfo: NarInfo, data: bytes) -> None:
        """Write a sealed index under the name that the narinfo will tell: after the blob, before the narinfo."""
        await self._put(self.url.name_of(narinfo.index_name or ""), data)

    async def put_profile(self, name: str, data: bytes) -> None:
        """Write the object of the profile of that name, in place of the one before."""
        await self._put(object_name(name), data)

    def parts(self, narinfo: NarInfo, listing: bytes, index: bytes | None, blob: bytes | None) -> dict[str, bytes]:
        """Name what a narinfo tells of, as far as it is given, for ``put_parts``."""
        parts = {narinfo.url: blob, f"{narinfo.path.hash_part}.ls": listing, narinfo.index_name or "": index}
        return {self.url.name_of(name): data for name, data in parts.items() if data is not None}

    async def put_parts(self, parts: Mapping[str, bytes]) -> None:
        """Write parts of any number of paths at the same time, before their narinfos."""
        await self._transport.put_small(parts)

    async def put_blob(self, name: str, chunks: AsyncIterable[bytes], size: int) -> None:
        """Write a compressed NAR of exactly ``size`` bytes under the URL ``name`` of its narinfo."""
        await self._transport.put(self.url.name_of(name), chunks, size)

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()

    def statistics(self) -> TransportStatistics:
        """Tell what the transport did so far."""
        return self._transport.statistics()

    async def _first_info(self) -> CacheInfo:
        remembered = trio.current_time() < self._info_trouble_until
        if remembered and self._info_trouble is not None and not self.outage.answered_since(self._info_trouble_at):
            raise type(self._info_trouble)(str(self._info_trouble)) from self._info_trouble
        begun = trio.current_time()
        try:
            info = await self._read_info()
        except Unavailable as error:
            now = trio.current_time()
            self._info_trouble, self._info_trouble_at = error, now
            self._info_trouble_until = now + max(now - begun, _TROUBLE_MEMORY_S)
            raise
        if info.store_dir != STORE_DIR:
            raise UsageError(f"{self.url}: is for {info.store_dir}, and narfs serves {STORE_DIR}: remove this store")
        return info

    async def _read_info(self) -> CacheInfo:
        return await self._greeting(paid(self._transport.get(CACHE_INFO, max_bytes=MAX_CACHE_INFO_BYTES)))

    async def _greeting(self, asked: Awaitable[bytes]) -> CacheInfo:
        try:
            return CacheInfo.parse(await asked)
        except (TooSlow, OverQuota):
            raise
        except NarfsError as error:
            # Also where it is absent or no nix-cache-info: a portal that greets with 200 is no lake, and may go away.
            raise Unavailable(f"{self.url}: cannot be used as a binary cache: {error}") from error

    async def _put(self, name: str, data: bytes) -> None:
        await self._transport.put_small({name: data})

    def _lost(self, narinfo: NarInfo) -> Unavailable:
        return Unavailable(f"{self.url}: has the narinfo of {narinfo.path.base_name} but not its NAR {narinfo.url!r}")


def _place(narinfo: NarInfo, start: BlobOffset) -> BlobPlace:
    return BlobPlace(narinfo.path.hash_part, start)
