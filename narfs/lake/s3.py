"""S3Transport: a lake in a bucket of AWS or of anything that speaks S3, over object_store (the ``obstore`` wheel).

object_store signs, keeps connections, repeats what failed (status 5xx and 429, broken connections, also in the middle
of a body as long as the ETag stays) and cuts uploads into parts. A small request costs a sixth of the processor time
that it costs with httpx and a signature, a range of 1 MiB a third, a stream half (``benchmarks/s3_client.py``). Its
asynchronous half is for asyncio, so all of it runs in threads, without the GIL; a piece of 1 MiB a hop. A thread that
is cancelled is left behind: it reads what nobody will see, until its connection gives or the stall deadline ends it,
and counts as a request until then.

What it does not do: count its own retries, obey Retry-After, or refuse a redirect to another host (S3 answers with one
only for a bucket that has just been made). An upload that breaks leaves its parts in the bucket, hidden: a lifecycle
rule (AbortIncompleteMultipartUpload) clears them away.
"""

from __future__ import annotations

import logging
import time
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import obstore
import trio

from narfs.errors import Corrupt, NotFound, TooSlow, Unavailable
from narfs.lake.content_encoding import decode
from narfs.lake.pace import SLOWEST_BYTES_PER_S, Pace
from narfs.lake.pieces import Pieces
from narfs.lake.s3_address import S3Address
from narfs.lake.s3_answer import S3Failure
from narfs.lake.s3_bucket import FOREIGN, S3Bucket
from narfs.lake.several import for_each
from narfs.lake.transport import CACHE_INFO, FROM_THE_START, ExactChunks, TransportCounters, content_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
    from typing import TypeVar

    from obstore import BytesStream, GetOptions, WritableFile
    from obstore.store import S3Store

    from narfs.lake.settings import LakeSettings
    from narfs.lake.store_url import StoreUrl
    from narfs.lake.transport import TransportStatistics
    from narfs.offsets import BlobOffset

    T = TypeVar("T")

_log = logging.getLogger(__name__)

_PART_BYTES = 8 * 1024 * 1024
"""S3 takes parts from 5 MiB on. One that fills and _PARTS_IN_FLIGHT more are in memory for each upload."""
_PARTS_IN_FLIGHT = 2
_MAX_PARTS = 10_000
_PART_PATIENCE = 10
"""Stall deadlines (300 s in all) for a part: object_store takes the time that sending it needs for silence."""
_HOP_S = 0.5
"""What came in that time is a piece even if it is a small one: what trickles is seen."""
_REFRESHING_BYTES = 1024 * 1024
"""Progress after which a stream that object_store has given up is opened again, so that any length survives."""


class S3Transport:
    """The lake in the bucket of ``url``. Credentials are looked for at the first request; again if it needs some."""

    def __init__(self, url: StoreUrl, settings: LakeSettings, environ: Mapping[str, str]) -> None:
        self._url = url
        self._address = S3Address.parse(url.netloc, url.path, dict(url.parameters), what=str(url))
        self._settings = settings
        self.stall_deadline_s = settings.stall_deadline_s
        self._environ = environ
        self._buckets: dict[bool, S3Bucket] = {}
        """The bucket as it is read, and (True) with more patience as it is written."""
        self._opening = trio.Lock()
        self._short = trio.CapacityLimiter(settings.short_requests)
        self._long = trio.Semaphore(settings.long_bodies, max_value=settings.long_bodies)
        self._hops = trio.CapacityLimiter(settings.long_bodies)
        """The threads of long bodies; those of abandoned ones too, which have given back their place in ``_long``."""
        self._admitted = False
        self.counters = TransportCounters()

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        """Read a small object whole, without its Content-Encoding."""
        what = self.what(name)

        def read(store: S3Store) -> bytes:
            found = obstore.get(store, self.key(name))
            if found.meta["size"] > max_bytes:
                raise Corrupt(f"{what}: is longer than {max_bytes} bytes")
            data = found.bytes().to_bytes()
            self.counters.received_bytes += len(data)
            encoding = found.attributes.get("Content-Encoding", "")
            return decode(encoding, data, max_bytes=max_bytes, what=what) if encoding else data

        data = await self._shortly(name, read)
        if name == CACHE_INFO:
            self._admitted = True
        return data

    @asynccontextmanager
    async def stream(self, name: str, *, start: BlobOffset = FROM_THE_START) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an object as stored, from byte ``start``."""
        async with self._long:
            _log.debug("stream started: %s from byte %d", name, start)
            body = _Body(self, name, start)
            await self.hop(name, body.open)
            yield body

    async def read_range(self, name: str, start: BlobOffset, length: int) -> bytes:
        """Read exactly ``length`` bytes from byte ``start`` of an object as stored."""
        data = await self._read(name, start, length)
        if len(data) < length:
            end = start + len(data)
            raise Corrupt(f"{self.what(name)}: byte {start + length} was asked for, but it has {end} bytes")
        return data

    async def read_beginning(self, name: str, length: int) -> bytes:
        """Read the first ``length`` bytes of an object as stored, or all of it."""
        return await self._read(name, FROM_THE_START, length)

    async def _read(self, name: str, start: BlobOffset, length: int) -> bytes:
        if length <= 0:
            return b""

        def read(store: S3Store) -> bytes:
            found = obstore.get_range(store, self.key(name), start=start, length=length)
            self.counters.received_bytes += len(found)
            return found.to_bytes()

        return await self._shortly(name, read)

    async def put(self, name: str, chunks: AsyncIterable[bytes], size: int) -> None:
        """Write an object; one that is larger than a part in several, which S3 joins when all are there."""
        part_bytes = max(_PART_BYTES, -(-size // _MAX_PARTS))
        hop = self._uploading(name)
        async with self._long:
            self.counters.requests += 1
            writer = await hop(partial(self._open_writer, name, part_bytes))
            async with aclosing(ExactChunks(chunks, size, what=self.what(name))) as upload:
                async for chunk in upload:
                    await hop(partial(_write, writer, chunk))
            # Never in a finally: closing is what makes the object.
            await hop(partial(_close, writer))
        self.counters.sent_bytes += size

    async def put_small(self, objects: Mapping[str, bytes]) -> None:
        """Write small objects at the same time, in one request and one hop each."""

        async def put(name: str) -> None:
            async with self._long:
                self.counters.requests += 1
                await self._uploading(name)(partial(self._put, name, objects[name]))
            self.counters.sent_bytes += len(objects[name])

        await for_each(objects, put, at_once=len(objects))

    async def exists(self, name: str) -> bool:
        """Whether the object is there. Asks for its first byte: why it may not is said in a body, and HEAD has none."""

        def look(store: S3Store) -> None:
            obstore.get(store, self.key(name), options={"range": (0, 1)}).bytes()

        try:
            await self._shortly(name, look)
        except NotFound:
            return False
        except Corrupt:
            return True  # it has not even one byte
        return True

    async def names(self, ending: str) -> list[str]:
        """Name all objects with this ending; no deadline, a thousand names take one request."""

        def look(store: S3Store) -> list[str]:
            found = obstore.list_with_delimiter(store, self.key("") or None)
            names = (each["path"].rpartition("/")[2] for each in found["objects"])
            return sorted(name for name in names if name.endswith(ending))

        async with self._long:
            self.counters.requests += 1
            return await self.hop(f"*{ending}", look)

    async def aclose(self) -> None:
        """Forget the bucket, and the connections with it."""
        await trio.lowlevel.checkpoint()
        self._buckets.clear()

    def statistics(self) -> TransportStatistics:
        """Tell what was done so far; the retries and the parts of uploads are object_store's secret."""
        long_bodies = (self._long.max_value or 0) - self._long.value
        return self.counters.snapshot(in_flight=self._short.borrowed_tokens + long_bodies)

    async def hop(
        self, name: str, work: Callable[[S3Store], T], *, absence: str | None = None, upload: bool = False
    ) -> T:
        """Do a part of a long body's ``work`` in a thread; ``absence``: what it would mean, if not NotFound."""
        return await self._in_thread(name, work, self._hops, absence, upload=upload)

    def key(self, name: str) -> str:
        """Give the key of an object."""
        return self._address.key(name)

    def what(self, name: str) -> str:
        """Name an object in messages."""
        return f"{self._url}/{name}"

    async def _shortly(self, name: str, work: Callable[[S3Store], T]) -> T:
        """Do ``work`` as one of the bounded number of short requests, within its deadline."""
        deadline_s = self._settings.small_object_deadline_s
        self.counters.requests += 1
        with trio.move_on_after(deadline_s):
            return await self._in_thread(name, work, self._short)
        raise TooSlow(f"{self.what(name)}: not complete after {deadline_s:g} s")

    async def _in_thread(
        self,
        name: str,
        work: Callable[[S3Store], T],
        limiter: trio.CapacityLimiter,
        absence: str | None = None,
        *,
        upload: bool = False,
    ) -> T:
        bucket = self._buckets.get(upload) or await self._open_bucket(upload=upload)

        def translating() -> T:
            try:
                return work(bucket.store)
            except FOREIGN as error:
                if not self._admitted and bucket.looks_for_credentials(error):
                    self._buckets.pop(upload, None)
                admitted = self._admitted and absence is None
                meaning = bucket.translated(error, self.what(name), admitted=admitted)
                if absence is not None and isinstance(meaning, NotFound):
                    meaning = Unavailable(f"{self.what(name)}: {absence}")
                raise meaning from error

        return await trio.to_thread.run_sync(translating, abandon_on_cancel=True, limiter=limiter)

    async def _open_bucket(self, *, upload: bool) -> S3Bucket:
        async with self._opening:
            if (bucket := self._buckets.get(upload)) is None:
                patience_s = self._settings.stall_deadline_s * (_PART_PATIENCE if upload else 1)
                settings = replace(self._settings, stall_deadline_s=patience_s)
                opening = partial(S3Bucket.open, self._address, settings, self._environ)
                bucket = self._buckets[upload] = await trio.to_thread.run_sync(opening, abandon_on_cancel=True)
                _log.debug("%s: asked with the credentials of %s", self._url, bucket.identity.origin)
            return bucket

    def _uploading(self, name: str) -> Callable[[Callable[[S3Store], T]], Awaitable[T]]:
        """Give the hop of an upload."""
        return partial(self.hop, name, absence="the server has no place for it; does it take uploads?", upload=True)

    def _put(self, name: str, data: bytes, store: S3Store) -> None:
        obstore.put(store, self.key(name), data, attributes={"Content-Type": content_type(name)})

    def _open_writer(self, name: str, part_bytes: int, store: S3Store) -> WritableFile:
        return obstore.open_writer(
            store,
            self.key(name),
            attributes={"Content-Type": content_type(name)},
            buffer_size=part_bytes,
            max_concurrency=_PARTS_IN_FLIGHT,
        )


class _Body:
    """An async iterator of an object's pieces; ``open`` and ``_pull`` run in threads, one at a time."""

    def __init__(self, transport: S3Transport, name: str, start: int) -> None:
        self._transport = transport
        self._name = name
        self._position = start
        """Offset of the next byte from object_store."""
        self._opened_at = start
        self._etag: str | None = None
        self._stream: BytesStream | None = None
        self._pieces = Pieces()
        self._pace = Pace(transport.stall_deadline_s)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        begun = trio.current_time()
        piece = await self._transport.hop(self._name, self._pull, absence="vanished while it was read")
        if piece is None:
            raise StopAsyncIteration
        if not self._pace.keeps_up(trio.current_time() - begun, len(piece)):
            what = self._transport.what(self._name)
            raise TooSlow(f"{what}: less than {SLOWEST_BYTES_PER_S} bytes a second came")
        return piece

    def open(self, store: S3Store) -> None:
        """Ask for the object from the position on; the version that was begun with, if any."""
        options: GetOptions = {"if_match": self._etag} if self._etag else {}
        if self._position > 0:
            options["range"] = {"offset": self._position}
        self._transport.counters.requests += 1
        self._opened_at = self._position
        try:
            found = obstore.get(store, self._transport.key(self._name), options=options)
        except FOREIGN as error:
            if S3Failure.read(str(error)).object_size == self._position:
                self._stream = None
                return
            raise
        what, etag = self._transport.what(self._name), found.meta["e_tag"]
        encoding = found.attributes.get("Content-Encoding", "")
        if encoding not in ("", "identity"):
            raise Unavailable(f"{what}: is kept with Content-Encoding {encoding!r}: NARs must be kept as they are")
        if self._etag and etag != self._etag:
            raise Unavailable(f"{what}: changed while it was read: ask again")
        self._etag = etag
        self._stream = found.stream(min_chunk_size=1)

    def _pull(self, store: S3Store) -> bytes | None:
        """Read until there is a piece, or for _HOP_S; None at the end of the object."""
        ends = time.monotonic() + _HOP_S
        while (piece := self._pieces.pop()) is None:
            chunk = self._next_chunk(store)
            if chunk is not None:
                self._pieces.push(chunk)
            if chunk is None or time.monotonic() > ends:
                return self._pieces.pop(last=True)
        return piece

    def _next_chunk(self, store: S3Store) -> bytes | None:
        while self._stream is not None:
            try:
                chunk = next(self._stream, None)
            except FOREIGN:
                if not self._etag or self._position - self._opened_at < _REFRESHING_BYTES:
                    raise
                self._transport.counters.retries += 1
                self._transport.counters.resumes += 1
                self.open(store)
                continue
            if chunk is None:
                return None
            self._position += len(chunk)
            self._transport.counters.received_bytes += len(chunk)
            return bytes(chunk)
        return None


def _write(writer: WritableFile, chunk: bytes, _store: S3Store) -> None:
    writer.write(chunk)


def _close(writer: WritableFile, _store: S3Store) -> None:
    writer.close()
