"""The blob of a sealed lake: a NAR cut into zstd frames, each a chunk with a digest of its own, and a seek table.

::

    blob       = frame* seek-table
    frame      = one zstd frame with content size and checksum
    seek-table = 0x184D2A5E u32-size entry* u32-frames 0x00 0x8F92EAB1      all little-endian
    entry      = u32 bytes of the frame, u32 bytes of NAR in it

The seek table is zstd's own "seekable format" in a skippable frame; narfs does not read it (the frames are in the
signed index), other tools do, and Nix passes over it.

Where a frame begins follows from the tree:

Rule 1. Before the contents of every file of FRAME_BYTES / 2 or more.
Rule 2. When the frame before has FRAME_BYTES.

So small files share frames, in the order of the NAR, and a file of half to a whole FRAME_BYTES is one frame's work.

The size of frames, measured with zstd level 9 on 141 libraries of /usr/lib (40.6 MB, 14.8 MB as one frame) and on
/usr/lib/python3.11 (52.5 MB, 12.7 MB); decoding is the median of one frame on a busy core::

    FRAME_BYTES   libraries   python   decoding
         64 KiB      +7.9 %  +18.6 %      85 µs
        128 KiB      +6.8 %  +15.1 %     170 µs
        256 KiB      +5.0 %  +11.3 %     340 µs     the kernel reads ahead 128 KiB: half of what is fetched, at worst
        512 KiB      +5.4 %   +9.4 %     950 µs
          1 MiB      +3.7 %   +6.4 %    1300 µs

Rule 1 for a half or for the whole of FRAME_BYTES differs by 0.1 %.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import zstandard

from narfs.formats.compression import ZSTD_LEVEL
from narfs.formats.frames import FrameTable
from narfs.formats.listing import Kind
from narfs.offsets import ChunkGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from narfs.formats.listing import NodeTable

FRAME_BYTES: Final = 256 * 1024

_SKIPPABLE: Final = struct.Struct("<II")
_SKIPPABLE_MAGIC: Final = 0x184D2A5E
_ENTRY: Final = struct.Struct("<II")
_FOOTER: Final = struct.Struct("<IBI")
_SEEKABLE_MAGIC: Final = 0x8F92EAB1


class NarCutter:
    """Cuts a NAR that passes into the contents of its frames.

    ``tree`` is the builder of a NarIndexer that takes every piece just before the cutter does.
    """

    def __init__(self, tree: NodeTable, *, frame_bytes: int = FRAME_BYTES) -> None:
        self._tree = tree
        self._frame_bytes = frame_bytes
        self._big_bytes = frame_bytes // 2
        self._seen = 0  # nodes that were looked at
        self._pending = bytearray()
        self._begin = 0  # NarOffset of what is pending

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take the next bytes of the NAR, give the frames that are complete."""
        self._pending += piece
        for cut in self._big_files():
            yield from self._take(cut - self._begin)
        whole = len(self._pending) // self._frame_bytes * self._frame_bytes
        yield from self._take(whole)

    def finish(self) -> Iterator[bytes]:
        """Give the rest."""
        yield from self._take(len(self._pending))

    def _take(self, length: int) -> Iterator[bytes]:
        """Cut off that much of what is pending, in frames."""
        for start in range(0, length, self._frame_bytes):
            yield bytes(self._pending[start : min(start + self._frame_bytes, length)])
        del self._pending[:length]
        self._begin += length

    def _big_files(self) -> Iterator[int]:
        """Where contents of big files begin that were announced since the last time."""
        for node in range(self._seen, len(self._tree)):
            _, kind, _, nar_offset, size, _, _ = self._tree.node(node)
            if kind is Kind.REGULAR and size >= self._big_bytes:
                yield nar_offset
        self._seen = len(self._tree)


class SealedFrame(NamedTuple):
    """One frame, and the digest of the bytes of NAR in it."""

    blob: bytes
    nar_length: int
    digest: bytes


class FrameSealer:
    """Compresses frames, without the interpreter lock, one at a time: threads that share the work have one each.

    Kept from frame to frame, since libzstd's memory for one costs as much as compressing some 20 KB.
    """

    def __init__(self, level: int = ZSTD_LEVEL) -> None:
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)

    def seal(self, contents: bytes) -> SealedFrame:
        """Compress one frame."""
        return SealedFrame(self._compressor.compress(contents), len(contents), hashlib.sha256(contents).digest())


class SealedBlob:
    """Takes the frames in order and knows what the index must say of them."""

    def __init__(self, frame_bytes: int = FRAME_BYTES) -> None:
        self._frame_bytes = frame_bytes
        self._blob_bounds = array("Q", [0])
        self._nar_bounds = array("Q", [0])
        self._digests = bytearray()
        self._blob_size = 0

    def add(self, frame: SealedFrame) -> bytes:
        """Take the next frame, give its bytes of the blob."""
        self._blob_bounds.append(self._blob_bounds[-1] + len(frame.blob))
        self._nar_bounds.append(self._nar_bounds[-1] + frame.nar_length)
        self._digests += frame.digest
        return frame.blob

    def finish(self) -> bytes:
        """Give the seek table, with which the blob ends."""
        frames = len(self._blob_bounds) - 1
        bounds = zip(pairwise(self._blob_bounds), pairwise(self._nar_bounds), strict=True)
        entries = b"".join(
            _ENTRY.pack(end - start, nar_end - nar_start) for (start, end), (nar_start, nar_end) in bounds
        )
        size = len(entries) + _FOOTER.size
        table = _SKIPPABLE.pack(_SKIPPABLE_MAGIC, size) + entries + _FOOTER.pack(frames, 0, _SEEKABLE_MAGIC)
        self._blob_size = self._blob_bounds[-1] + len(table)
        return table

    @property
    def frames(self) -> FrameTable:
        """Every frame, after ``finish``."""
        return FrameTable("zstd", self._blob_size, self._blob_bounds, self._nar_bounds)

    @property
    def grid(self) -> ChunkGrid:
        """The chunks of the NAR: one for each frame."""
        return ChunkGrid(self._nar_bounds[-1], self._frame_bytes, self._nar_bounds[:-1])

    @property
    def digests(self) -> bytes:
        """The sha256 of each chunk."""
        return bytes(self._digests)
