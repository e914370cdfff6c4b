"""The blob of a sealed lake: a NAR cut into zstd frames, each a chunk with a digest of its own, and a seek table.

::

    blob       = frame* seek-table
    frame      = one zstd frame with content size and checksum
    seek-table = 0x184D2A5E u32-size entry* u32-frames 0x00 0x8F92EAB1      all little-endian
    entry      = u32 bytes of the frame, u32 bytes of NAR in it

The seek table is zstd's own "seekable format" in a skippable frame; narfs does not read it (the frames are in the
signed index), other tools do, and Nix passes over it.

Where a frame begins follows from the tree:

Rule 1. Before the contents of every *large* file, a quarter of FRAME_BYTES or more, and of the file behind one.
Rule 2. When the frame before is full: FRAME_BYTES in a large file, a quarter of that among small ones.

So small files share frames, in the order of the NAR, and what is in a frame of more than a quarter is one large file.

How large frames are is chosen by what a starting program fetches (B1 in benchmarks/: the share of its closure's blobs
and how often it waits, simulated with one trace of its reads) and by what they cost. Measured with zstd level 9 against
one frame: 447 libraries of /usr/lib (488 MB, 144 MB as one frame) and /usr/lib/python3.11 (52 MB, 13 MB)::

    large     small     libraries   python   closure   fetched   waits
     64 KiB    32 KiB    +14.6 %   +20.3 %   57.8 MB    12.6 %     176
    128 KiB    64 KiB    +12.3 %   +17.1 %   56.1 MB    14.0 %     132
    256 KiB    64 KiB     +9.4 %   +15.6 %   56.4 MB    14.1 %     110     decoding 256 KiB takes 340 µs
    256 KiB   128 KiB     +9.4 %   +13.6 %   55.4 MB    14.9 %      92     a file of 128 KiB and more is large
    256 KiB   256 KiB     +9.3 %   +11.2 %   54.4 MB    16.2 %      84     the same
    512 KiB    64 KiB     +9.1 %   +15.2 %

The kernel reads 128 KiB around what a program touches, so smaller frames of large files save little.
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
        self._full_bytes = {True: frame_bytes, False: max(1, frame_bytes // 4)}
        self._large = False  # whether a large file was the last to begin
        self._seen = 0  # nodes that were looked at
        self._pending = bytearray()
        self._begin = 0  # NarOffset of what is pending

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take the next bytes of the NAR, give the frames that are complete."""
        self._pending += piece
        for nar_offset, large in self._files():
            if large or self._large:
                yield from self._take(nar_offset - self._begin)
            self._large = large
        full_bytes = self._full_bytes[self._large]
        yield from self._take(len(self._pending) // full_bytes * full_bytes)

    def finish(self) -> Iterator[bytes]:
        """Give the rest."""
        yield from self._take(len(self._pending))

    def _take(self, length: int) -> Iterator[bytes]:
        """Cut off that much of what is pending, in frames."""
        full_bytes = self._full_bytes[self._large]
        for start in range(0, length, full_bytes):
            yield bytes(self._pending[start : min(start + full_bytes, length)])
        del self._pending[:length]
        self._begin += length

    def _files(self) -> Iterator[tuple[int, bool]]:
        """Where contents begin that were announced since the last time, and whether they are those of large files."""
        for node in range(self._seen, len(self._tree)):
            _, kind, _, nar_offset, size, _, _ = self._tree.node(node)
            if kind is Kind.REGULAR:
                yield nar_offset, size >= self._full_bytes[False]
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
