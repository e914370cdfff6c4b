"""Frames: parts of a compressed NAR that can be fetched and decompressed by themselves.

A FrameTable is learned during the first forward pass over a blob (compression.py) and kept in the NarIndex. Blobs that
are one solid frame have none.

xz keeps its own table, the index in front of the stream footer::

    stream = header(12) *block index footer(12)
    index  = 0x00 varint(blocks) *(varint(unpadded size) varint(uncompressed size)) pad4 crc32
    footer = crc32 u32(index bytes / 4 - 1) flags(2) "YZ"
    block  = header data pad4 check      header: u8 (bytes / 4 - 1) ...      unpadded size: without pad4
    data   = *chunk 0x00                 LZMA2; see _LZMA2_... below for the chunks
"""

from __future__ import annotations

import lzma
import struct
import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from narfs.errors import FormatError
from narfs.formats.nar_grammar import MAX_NAR_SIZE
from narfs.formats.quote import quote
from narfs.offsets import BlobOffset, NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAMED = ("xz", "zstd")
"""Compressions that can have frames."""

XZ_TAIL_BYTES = 1 << 20
"""The end of an xz blob in which its index is looked for: 100 000 blocks and more; 24 MiB each in the wild."""

FRAME_MAX_BYTES = 32 << 20
"""NAR bytes of the largest frame that is fetched by itself, for it is held in memory: 24 MiB is the most seen (xz)."""

_HEADER = struct.Struct("<8sQQ")  # compression, blob_size, bounds
_BOUNDS_FREE = 1024
_FRAME_MEAN_MIN_BYTES = 4096


class Frame(NamedTuple):
    """Bytes of the blob that decompress to ``nar_length`` bytes of the NAR from ``nar``."""

    blob: BlobOffset
    blob_length: int
    nar: NarOffset
    nar_length: int


@dataclass(frozen=True, slots=True)
class FrameTable:
    """All frames of one blob as two parallel columns of bounds, 16 bytes a frame.

    Frame i lies between bound i and bound i + 1; one that holds no byte of the NAR is passed over: skippable frames,
    empty ones. Bytes of the blob before the first and after the last bound are headers and indexes.
    """

    compression: str
    blob_size: int
    blob_bounds: array[int]
    nar_bounds: array[int]

    def __post_init__(self) -> None:
        """Refuse what no blob can look like: bounds that do not grow, or leave the blob."""
        blob, nar = self.blob_bounds, self.nar_bounds
        sound = (
            self.compression in FRAMED
            and len(blob) == len(nar) >= 2
            and nar[0] == 0
            and blob[-1] <= self.blob_size
            and all(map(int.__lt__, blob, blob[1:]))
            and all(map(int.__le__, nar, nar[1:]))
        )
        if not sound:
            raise FormatError("frame table", offset=0, expected="growing bounds inside the blob", found="others")

    @property
    def nar_size(self) -> int:
        """Bytes of the NAR that all frames give."""
        return self.nar_bounds[-1]

    def covering(self, span: NarSpan) -> list[Frame]:
        """Give the frames, in order, that hold the bytes of ``span``; what lies behind the NAR has none."""
        if span.length <= 0:
            return []
        blob, nar = self.blob_bounds, self.nar_bounds
        first = bisect_right(nar, span.start) - 1
        end = bisect_left(nar, min(span.end, nar[-1]))
        return [
            Frame(BlobOffset(blob[i]), blob[i + 1] - blob[i], NarOffset(nar[i]), nar[i + 1] - nar[i])
            for i in range(first, end)
            if nar[i] < nar[i + 1]
        ]

    def to_bytes(self) -> bytes:
        """Serialize for a NarIndex, which adds magic, version and checksum."""
        header = _HEADER.pack(self.compression.encode(), self.blob_size, len(self.blob_bounds))
        return header + _little_endian(self.blob_bounds).tobytes() + _little_endian(self.nar_bounds).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> FrameTable:
        """Parse what ``to_bytes`` made, from exactly these bytes. Raises FormatError."""
        if len(data) < _HEADER.size:
            raise FormatError("frame table", offset=0, expected=f"{_HEADER.size} bytes", found=f"{len(data)}")
        name, blob_size, bounds = _HEADER.unpack_from(data)
        if len(data) != _HEADER.size + 16 * bounds:
            raise FormatError(
                "frame table", offset=8, expected=f"{bounds} bounds of 16 bytes", found=f"{len(data)} bytes in all"
            )
        columns = array("Q")
        columns.frombytes(data[_HEADER.size :])
        columns = _little_endian(columns)
        compression = name.rstrip(b"\0").decode("ascii", "replace")
        return cls(compression, blob_size, columns[:bounds], columns[bounds:])


class FrameRecorder:
    """Collects the bounds of frames as a decoder passes them, in at most 0.4 % of the memory of the NAR."""

    def __init__(self, *, first_blob_bound: int = 0) -> None:
        self._blob = array("Q", [first_blob_bound])
        self._nar = array("Q", [0])
        self._worthwhile = True

    @property
    def nar_bound(self) -> int:
        """Where in the NAR the last frame ended."""
        return self._nar[-1]

    def end_frame(self, blob_end: int, nar_end: int) -> None:
        """Note that a frame ended there; one without NAR bytes is merged with its like before it."""
        blob, nar = self._blob, self._nar
        if len(nar) > 1 and nar[-2] == nar[-1] == nar_end:
            blob[-1] = blob_end
            return
        if len(nar) > _BOUNDS_FREE + nar_end // _FRAME_MEAN_MIN_BYTES:  # 16 KiB is the least seen in the wild (attic)
            self._worthwhile = False
            del blob[:-1], nar[:-1]
        blob.append(blob_end)
        nar.append(nar_end)

    def finish(self, compression: str, blob_size: int) -> FrameTable | None:
        """Give the table; None if the blob is one solid frame, or its frames are too small or too large to be used."""
        blob, nar = self._blob, self._nar
        if len(nar) > 1 and nar[-2] == nar[-1]:  # behind the last frame: a seek table, say
            del blob[-1], nar[-1]
        if not self._worthwhile or len(nar) < 3 or (len(nar) == 3 and nar[1] == 0):
            return None
        if max(map(int.__sub__, nar[1:], nar)) > FRAME_MAX_BYTES:
            return None
        return FrameTable(compression, blob_size, blob, nar)


def decode_frame(compression: str, data: bytes | memoryview, nar_length: int) -> bytes:
    """Decompress one whole frame to exactly ``nar_length`` bytes. Raises FormatError.

    Holds the whole frame in memory: for a frame of many megabytes of zstd, a Decoder fed with the frame alone does not.
    """
    if compression not in FRAMED:
        raise FormatError(
            "compression", offset=0, expected="one that has frames: " + ", ".join(FRAMED), found=quote(compression)
        )
    try:
        contents = (_decode_xz_block if compression == "xz" else _decode_zstd_frame)(data, nar_length)
    except (zstandard.ZstdError, lzma.LZMAError) as error:
        raise FormatError(f"{compression} frame", offset=0, expected="a sound frame", found=str(error)[:80]) from error
    if len(contents) != nar_length:
        raise FormatError(
            f"{compression} frame", offset=0, expected=f"{nar_length} bytes of NAR", found=f"{len(contents)}"
        )
    return contents


def _decode_zstd_frame(data: bytes | memoryview, nar_length: int) -> bytes:
    claimed = zstandard.frame_content_size(data)
    if claimed not in (-1, nar_length):  # -1: unknown. libzstd would allocate whatever is claimed
        raise FormatError("zstd frame", offset=0, expected=f"{nar_length} bytes of NAR", found=f"{claimed}")
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=nar_length, allow_extra_data=False)


# The field's names of the checks an xz stream may end its blocks with, by their size in bytes.
_XZ_CHECKS = {0: lzma.CHECK_NONE, 4: lzma.CHECK_CRC32, 8: lzma.CHECK_CRC64, 32: lzma.CHECK_SHA256}


def _decode_xz_block(block: bytes | memoryview, nar_length: int) -> bytes:
    """Wrap a stream around the block, for liblzma's block decoder is out of Python's reach.

    The stream's header names the check, its index the unpadded size; both follow from where the LZMA2 data end. (So a
    block cut just before its check passes for one without; its length comes from the table.)
    """
    data_end = _lzma2_end(block)
    check_bytes = len(block) - (data_end + 3 & ~3)
    if check_bytes not in _XZ_CHECKS:
        raise FormatError("xz frame", offset=data_end, expected="padding and a check", found=f"{check_bytes} bytes")
    flags = bytes((0, _XZ_CHECKS[check_bytes]))
    index = b"\0" + _varint(1) + _varint(data_end + check_bytes) + _varint(nar_length)
    index += bytes(-len(index) % 4)
    index += _crc32(index)
    backward = struct.pack("<I", len(index) // 4 - 1) + flags
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    contents = decompressor.decompress(b"\xfd7zXZ\0" + flags + _crc32(flags), nar_length)
    contents = decompressor.decompress(block, nar_length)
    contents += decompressor.decompress(index + _crc32(backward) + backward + b"YZ", nar_length + 1 - len(contents))
    if not decompressor.eof:
        raise FormatError("xz frame", offset=len(block), expected=f"{nar_length} bytes of NAR", found="more")
    return contents


def _lzma2_end(block: bytes | memoryview) -> int:
    """Find where the LZMA2 data of a block end: chunk by chunk, each at most 64 KiB.

    chunk = control sizes [properties] bytes. Control 0x01, 0x02: stored, sizes is u16be size - 1. From 0x80: packed,
    sizes is u16be (unpacked size), u16be packed size - 1; from 0xc0 with a byte of properties.
    """
    at = (block[0] + 1) * 4 if block else 0
    while at + 5 < len(block) and (control := block[at]):
        if control < 0x80:
            at += 4 + int.from_bytes(block[at + 1 : at + 3], "big")
        else:
            at += 6 + (control >= 0xC0) + int.from_bytes(block[at + 3 : at + 5], "big")
    if at >= len(block) or block[at]:
        raise FormatError("xz frame", offset=min(at, len(block)), expected="the end of LZMA2 data", found="none")
    return at + 1


def xz_frames(tail: bytes, blob_size: int) -> FrameTable | None:
    """Read the frames of a single-stream blob from its last bytes; None if the index does not fit in there.

    For blobs that liblzma has decoded without complaint: checksums are not checked again, what makes no sense is None.
    """
    index_bytes = 4 * (int.from_bytes(tail[-8:-4], "little") + 1)
    if tail[-2:] != b"YZ" or index_bytes + 12 > len(tail):
        return None
    varints = _varints(tail[-12 - index_bytes + 1 : -12 - 4])
    blocks = next(varints, 0)
    recorder = FrameRecorder(first_blob_bound=12)
    blob, nar = 12, 0
    for _, unpadded, uncompressed in zip(range(blocks), varints, varints, strict=False):
        blob += unpadded + 3 & ~3
        nar += uncompressed
        if blob > blob_size or nar > MAX_NAR_SIZE:
            return None
        recorder.end_frame(blob, nar)
    return recorder.finish("xz", blob_size) if blob == blob_size - 12 - index_bytes else None


def _varints(data: bytes) -> Iterator[int]:
    """Read xz's multibyte integers: seven bits a byte, lowest first, the top bit says that more follow."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def _crc32(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def _little_endian(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column
