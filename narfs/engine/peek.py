"""Kind and size of a NAR's root node from its first kilobytes: what a lookup in the root needs before verification.

It is a claim of the lake's. Nothing but the kind and the size is ever shown of it, and the verified NAR puts it right.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from lru import LRU

from narfs.errors import Corrupt
from narfs.formats.compression import decoder
from narfs.formats.nar import Root, peek_root
from narfs.offsets import BlobOffset

if TYPE_CHECKING:
    from narfs.engine.means import Described
    from narfs.formats.narinfo import NarInfo

_REQUESTS_BYTES = (64 * 1024, 72 * 1024)
"""The root node is in the first 4 KiB of a NAR. zstd and lz4 give nothing before a whole block is in: 128 KiB of NAR,
mostly less than half of that in the blob (of 86 paths of Debian's, 23 need the second request), and never much more. A
block of bzip2 takes up to 900 kB: that is streamed."""

_BEGINNINGS = 256
"""How many beginnings are kept for the pass that may follow: 34 MiB at most."""


class Beginnings:
    """The first bytes of blobs whose root was peeked at, so that a pass need not fetch them again."""

    def __init__(self) -> None:
        self._kept: LRU[tuple[str, str], bytes] = LRU(_BEGINNINGS)

    def keep(self, described: Described, data: bytes) -> None:
        """Keep what a blob begins with."""
        self._kept[str(described.lake.url), described.narinfo.url] = data

    def take(self, described: Described) -> bytes:
        """Give what is kept of a blob, perhaps nothing, and forget it."""
        return self._kept.pop((str(described.lake.url), described.narinfo.url), b"")


class _Beginning:
    """The beginning of a NAR as its blob comes in."""

    def __init__(self, narinfo: NarInfo) -> None:
        self._decoder = decoder(narinfo.compression, nar_size=narinfo.nar_size)
        self._prefix = b""

    def feed(self, data: bytes) -> Root | None:
        """Take the next bytes, 20 ms of work when a block of bzip2 is among them: so not on the event loop."""
        for piece in self._decoder.feed(data):
            self._prefix += piece
            if (root := peek_root(self._prefix)) is not None:
                return root
        return None


async def peek(described: Described, beginnings: Beginnings) -> Root:
    """Ask the lake; Corrupt or FormatError if no NAR begins like that, Unavailable, at once if it is down."""
    lake, narinfo = described.lake, described.narinfo
    if narinfo.file_size is not None:
        beginning, data = _Beginning(narinfo), b""
        with suppress(Corrupt):  # nobody signs the FileSize: the blob may be shorter
            for request_bytes in _REQUESTS_BYTES:
                length = min(narinfo.file_size - len(data), request_bytes)
                more = await lake.read_blob(narinfo, BlobOffset(len(data)), length, patient=False)
                data += more
                if (root := await trio.to_thread.run_sync(beginning.feed, more)) is not None:
                    beginnings.keep(described, data)
                    return root
    beginning = _Beginning(narinfo)
    async with lake.open_blob(narinfo, patient=False) as pieces:
        async for data in pieces:
            if (root := await trio.to_thread.run_sync(beginning.feed, data)) is not None:
                return root
    raise Corrupt(f"{narinfo.path.base_name}: the blob ends before the NAR's root node")
