"""Sending: what a narinfo tells of into a lake. Whoever asked for it writes the narinfo then.

What a reader of the lake may rely on: a narinfo is there only when its blob and its index are, and only when the
narinfos of all it refers to are. So blob, ``.ls`` and sealed index come before the narinfo, and the narinfo waits for
those of its references: every crash leaves a valid lake.

A large blob lies in a temporary file in between, because a lake wants its hash for a name and its length in front;
memory is bounded by some MiB for each path in flight.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from functools import partial
from typing import IO, TYPE_CHECKING

import trio

from narfs.errors import Unavailable
from narfs.lake.several import for_each
from narfs.publish.nar_dump import HOP_BYTES, dump_hops
from narfs.publish.packing import Packing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from narfs.formats.narinfo import NarInfo
    from narfs.lake.binary_cache import BinaryCache
    from narfs.publish.packing import Crate, Parcel
    from narfs.publish.progress import Meter
    from narfs.publish.sealing import FramePress

    Advance = Callable[[int], None]
    """Is told bytes of NAR that have passed."""
    Feeder = Callable[[Callable[[bytes], None], Advance], Awaitable[None]]
    """Feeds a whole NAR in a thread, in steps of which it tells the bytes."""

_SENT_UNASKED_BYTES = 64 * 1024
"""A blob of a crate that is not larger is sent without asking whether the lake has it, which would take as long."""
_ASK_AT_ONCE = 8
_SPOOLS = "/var/tmp"  # noqa: S108 - files without a name
"""Where large blobs lie, unless $TMPDIR says otherwise: /tmp may be memory."""


async def feed_local(root: Path, feed: Callable[[bytes], None], advance: Advance) -> None:
    """Feed the NAR of a file or directory of this machine."""

    def hop() -> int:
        if piece := next(pieces, b""):
            feed(piece)
        return len(piece)

    with closing(dump_hops(root)) as pieces:
        while passed := await trio.to_thread.run_sync(hop):
            advance(passed)


async def publish(
    target: BinaryCache,
    parcel: Parcel,
    feeder: Feeder,
    *,
    press: FramePress,
    packing: AbstractAsyncContextManager[object],
    advance: Advance,
) -> NarInfo:
    """Bring a path into the lake, up to its narinfo; Corrupt if its NAR is not the expected one.

    It is packed inside of ``packing``; ``advance`` is told every byte of the NAR twice: when packed, when sent.
    """
    with _spool() as file:
        async with packing:
            work = Packing(parcel, press, partial(_keep, file))
            await feeder(work.feed, advance)
            packed = await trio.to_thread.run_sync(work.finish)
        narinfo = packed.narinfo
        upload = _Upload(file, narinfo, advance)
        if not await target.has_blob(narinfo.url):
            await target.put_blob(narinfo.url, upload, file.tell())
        upload.end()
    await target.put_parts(target.parts(narinfo, packed.listing, packed.index, None))
    return narinfo


async def send(target: BinaryCache, crates: Sequence[Crate], meter: Meter) -> list[NarInfo]:
    """Bring small paths into the lake, up to their narinfos; ``meter`` is told the bytes of the NARs."""
    known: set[str] = set()

    async def ask(crate: Crate) -> None:
        if await target.has_blob(crate.packed.narinfo.url):
            known.add(crate.packed.narinfo.url)

    await for_each((one for one in crates if len(one.blob) > _SENT_UNASKED_BYTES), ask, at_once=_ASK_AT_ONCE)
    parts: dict[str, bytes] = {}
    for packed, blob in ((one.packed, one.blob) for one in crates):
        unknown = None if packed.narinfo.url in known else blob
        parts |= target.parts(packed.narinfo, packed.listing, packed.index, unknown)
    await target.put_parts(parts)
    narinfos = [crate.packed.narinfo for crate in crates]
    for narinfo in narinfos:
        meter.subject(narinfo.path.name)(narinfo.nar_size)
    return narinfos


def _spool() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=os.environ.get("TMPDIR", _SPOOLS))
    except OSError as error:
        raise _no_room(error) from error


def _keep(file: IO[bytes], compressed: bytes) -> None:
    try:
        file.write(compressed)
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> Unavailable:
    place = os.environ.get("TMPDIR", _SPOOLS)
    return Unavailable(f"{place}: cannot keep a compressed NAR: {error.strerror}; TMPDIR says where")


class _Upload:
    """A blob in a file, read from its beginning each time it is asked for: a request that failed is sent again."""

    def __init__(self, file: IO[bytes], narinfo: NarInfo, advance: Advance) -> None:
        self._file = file
        self._narinfo = narinfo
        self._advance = advance
        self._told = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._file.seek(0)
        read = 0
        while piece := await trio.to_thread.run_sync(partial(self._file.read, HOP_BYTES)):
            yield piece
            read += len(piece)
            self._tell(self._narinfo.nar_size * read // (self._narinfo.file_size or read))

    def end(self) -> None:
        """Say that the lake has it."""
        self._tell(self._narinfo.nar_size)

    def _tell(self, nar_bytes: int) -> None:
        if nar_bytes > self._told:
            self._advance(nar_bytes - self._told)
            self._told = nar_bytes
