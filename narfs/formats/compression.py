"""Decompress a NAR as it passes, within bounds, and learn its frames; compress one for push.

Rule 1. A piece of output is at most PIECE_BYTES, and pieces in all at most nar_size, whatever the input: the decoder
        makes one piece, hands it out, and only then makes the next.
        A blob of more than twice nar_size, and some, is refused too: empty frames cost 5 µs each, and have no end.
Rule 2. Whatever is wrong with the bytes is a FormatError: damage, truncation, anything behind the end, too much output.
Rule 3. Streams may be chained wherever Nix accepts it: frames of zstd (skippable ones too) and lz4, streams of xz and
        bzip2, members of gzip. Only brotli has no way to.

All decompression is done in C without the GIL, in steps of some 100 KiB of input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import zstandard

from narfs.errors import FormatError, UsageError
from narfs.formats.frames import XZ_TAIL_BYTES, FrameRecorder, FrameTable, xz_frames
from narfs.formats.quote import quote
from narfs.formats.streams import BEGIN_STREAM, DAMAGE
from narfs.formats.zstd_frames import WINDOW_MAX_BYTES, FrameEnd, ZstdWalker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from narfs.formats.streams import Stream

KNOWN: Mapping[str, str] = MappingProxyType(
    {
        "none": "",
        "xz": ".xz",
        "zstd": ".zst",
        "gzip": ".gz",
        "bzip2": ".bz2",
        "br": ".br",
        "lz4": ".lz4",
    }
)
"""What a narinfo's Compression may say, and the usual ending of such a blob's name, which means nothing to readers."""

PIECE_BYTES = 1 << 20

ZSTD_LEVEL = 9
"""Higher levels gain little on NARs of binaries and cost several times the CPU."""

_SPARE_BYTES = 1 << 20
"""What a blob may have beyond twice its NAR. Nothing compresses to so much; empty frames and padding do."""

_STEP_BYTES = 128 * 1024
"""Input given at once to libraries that copy what they could not use: bounds the copying when streams are tiny."""


class Decoder(ABC):
    """One pass over one blob: ``feed`` all of it, then ``finish``, then ask for ``frames``."""

    def __init__(self, compression: str, nar_size: int) -> None:
        self.compression = compression
        self.nar_size = nar_size
        self.fed_bytes = 0
        self.nar_bytes = 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """Decompress the next bytes of the blob, of any length.

        Exhaust the iterator before the next call. Raises FormatError, after which the decoder is of no more use.
        """
        if self.fed_bytes + len(data) > 2 * self.nar_size + _SPARE_BYTES:
            raise self._error(f"a blob of a NAR of {self.nar_size} bytes", "one of more than twice that")
        try:
            for piece in self._decode(memoryview(data)):
                self.nar_bytes += len(piece)
                if self.nar_bytes > self.nar_size:
                    raise self._bomb()
                yield piece
        except DAMAGE as error:
            raise self._error("sound data", str(error)[:80]) from error
        self.fed_bytes += len(data)

    def finish(self) -> None:
        """Say that the blob ended here. Raises FormatError unless it was complete and gave ``nar_size`` bytes."""
        if not self._complete():
            raise self._error("the rest of the compressed NAR", "the end of the blob")
        if self.nar_bytes != self.nar_size:
            raise self._error(f"{self.nar_size} bytes of NAR", f"{self.nar_bytes}")

    def frames(self) -> FrameTable | None:
        """Give the frames that random access can use, after ``finish``; None if there are none."""
        return None

    @abstractmethod
    def _decode(self, data: memoryview) -> Iterator[bytes]: ...

    @abstractmethod
    def _complete(self) -> bool: ...

    def _error(self, expected: str, found: str) -> FormatError:
        return FormatError(f"{self.compression} NAR", offset=self.fed_bytes, expected=expected, found=found)

    def _bomb(self) -> FormatError:
        return self._error(f"at most {self.nar_size} bytes of NAR", "more: a decompression bomb, or a wrong NarSize")


class _Identity(Decoder):
    """Compression none."""

    def _decode(self, data: memoryview) -> Iterator[bytes]:
        for start in range(0, len(data), PIECE_BYTES):
            yield bytes(data[start : start + PIECE_BYTES])

    def _complete(self) -> bool:
        return True


class _Zstd(Decoder):
    """The walker cuts the input where the output could pass a piece, libzstd does the rest."""

    def __init__(self, compression: str, nar_size: int) -> None:
        super().__init__(compression, nar_size)
        self._walker = ZstdWalker(PIECE_BYTES)
        self._recorder = FrameRecorder()
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX_BYTES).decompressobj(
            write_size=PIECE_BYTES, read_across_frames=True
        )
        self._made_bytes = 0

    def _decode(self, data: memoryview) -> Iterator[bytes]:
        for step in self._walker.feed(data):
            if isinstance(step, FrameEnd):
                size = step.content_size
                nar_end = self._made_bytes if size is None else self._recorder.nar_bound + size
                if nar_end > self.nar_size:
                    raise self._bomb()
                self._recorder.end_frame(step.blob_end, nar_end)
                continue
            piece = self._decompressor.decompress(data[step.start : step.end])
            self._made_bytes += len(piece)
            if piece:
                yield piece

    def _complete(self) -> bool:
        return self._walker.between_frames

    def frames(self) -> FrameTable | None:
        return self._recorder.finish(self.compression, self.fed_bytes)


class _Streams(Decoder):
    """Streams one after the other, until the blob ends."""

    def __init__(self, compression: str, nar_size: int) -> None:
        super().__init__(compression, nar_size)
        self._stream: Stream | None = None
        self._begun = 0

    def _decode(self, data: memoryview) -> Iterator[bytes]:
        for start in range(0, len(data), _STEP_BYTES):
            yield from self._decode_step(data[start : start + _STEP_BYTES])

    def _decode_step(self, data: bytes | memoryview) -> Iterator[bytes]:
        while True:
            if self._stream is None:
                data = self._between_streams(data)
                if not data:
                    return
                if self._begun and self.compression == "br":
                    raise self._error("the end of the blob", "more bytes")
                self._stream = BEGIN_STREAM[self.compression]()
                self._begun += 1
            stream = self._stream
            piece = stream.decompress(data, min(PIECE_BYTES, self.nar_size - self.nar_bytes + 1))
            if stream.eof:
                data, self._stream = stream.unused_data, None
            else:
                data = b""
            if piece:
                yield piece
            if self._stream and stream.needs_input:
                return

    def _between_streams(self, data: bytes | memoryview) -> bytes | memoryview:
        return data

    def _complete(self) -> bool:
        return self._stream is None


class _Xz(_Streams):
    """Allows padding between streams, and keeps the end of the blob, where a stream of many blocks has its index."""

    def __init__(self, compression: str, nar_size: int) -> None:
        super().__init__(compression, nar_size)
        self._tail = bytearray()
        self._padding_bytes = 0

    def _decode(self, data: memoryview) -> Iterator[bytes]:
        self._tail += data[-XZ_TAIL_BYTES:]
        if len(self._tail) > 2 * XZ_TAIL_BYTES:
            del self._tail[:-XZ_TAIL_BYTES]
        return super()._decode(data)

    def _between_streams(self, data: bytes | memoryview) -> bytes | memoryview:
        if not self._begun:
            return data
        rest = bytes(data).lstrip(b"\0")
        self._padding_bytes += len(data) - len(rest)
        if rest and self._padding_bytes % 4:
            raise self._error("padding of a multiple of 4 bytes", f"{self._padding_bytes} bytes")
        return rest

    def _complete(self) -> bool:
        return super()._complete() and self._padding_bytes % 4 == 0

    def frames(self) -> FrameTable | None:
        if self._begun != 1 or self._padding_bytes:
            return None
        return xz_frames(bytes(self._tail), self.fed_bytes)


_DECODERS: Mapping[str, type[Decoder]] = MappingProxyType(
    {
        "none": _Identity,
        "xz": _Xz,
        "zstd": _Zstd,
        "gzip": _Streams,
        "bzip2": _Streams,
        "br": _Streams,
        "lz4": _Streams,
    }
)


def decoder(compression: str, *, nar_size: int) -> Decoder:
    """Make the decoder for what a narinfo's Compression says.

    Raises FormatError, naming it, for one that narfs does not read: the bytes are in a format we do not know, asking
    again will not help, and another lake may hold the same NAR in a better one.
    """
    if compression not in _DECODERS:
        raise FormatError("compression", offset=0, expected="one of " + ", ".join(KNOWN), found=quote(compression))
    return _DECODERS[compression](compression, nar_size)


class Encoder(Protocol):
    """One pass over one NAR, the other way."""

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take the next bytes of the NAR, give what bytes of the blob are ready, often none."""

    def finish(self) -> bytes:
        """Give the rest of the blob."""


class _IdentityEncoder:
    def feed(self, data: bytes | memoryview) -> bytes:
        return bytes(data)

    def finish(self) -> bytes:
        return b""


class _ZstdEncoder:
    """One frame with a checksum."""

    def __init__(self, level: int) -> None:
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()

    def feed(self, data: bytes | memoryview) -> bytes:
        return self._compressor.compress(data)

    def finish(self) -> bytes:
        return self._compressor.flush()


def encoder(compression: str, *, level: int = ZSTD_LEVEL) -> Encoder:
    """Make an encoder for what narfs writes: ``none`` or ``zstd``. Raises UsageError for anything else."""
    if compression == "none":
        return _IdentityEncoder()
    if compression == "zstd":
        return _ZstdEncoder(level)
    raise UsageError(f"cannot write compression {quote(compression)}: choose none or zstd")
