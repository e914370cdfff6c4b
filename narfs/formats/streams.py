"""One compressed stream (xz, bzip2), member (gzip) or frame (lz4): five libraries behind one small protocol."""

from __future__ import annotations

import bz2
import lzma
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import brotli  # type: ignore[import-untyped]  # ships no annotations
import lz4.frame
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DAMAGE = (zstandard.ZstdError, lzma.LZMAError, zlib.error, brotli.error, OSError, EOFError, RuntimeError, ValueError)
"""What the libraries raise on bad bytes; OSError is bz2's, RuntimeError lz4's."""

_XZ_MEMORY_MAX_BYTES = 1 << 30
"""More than any preset needs (xz -9: 65 MiB). The dictionary is touched only as far as output was made."""

_BROTLI_LIMIT_BYTES = 256 * 1024
"""brotli's buffer grows in blocks of doubling size and stops at the first sum above the limit: here 480 KiB (tried)."""


class Stream(Protocol):
    """The protocol of the standard library's decompressors."""

    @property
    def eof(self) -> bool:
        """The stream ended; what was fed behind its end is in ``unused_data``."""

    @property
    def needs_input(self) -> bool:
        """Nothing more comes without more input; else go on with empty input."""

    @property
    def unused_data(self) -> bytes:
        """Input behind the end."""

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """Give up to ``max_length`` bytes, or what is ready; keeps the input it could not use yet."""


class GzipMember:
    """zlib spells the protocol differently."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._rest = b""

    @property
    def eof(self) -> bool:
        """See Stream."""
        return self._member.eof

    @property
    def needs_input(self) -> bool:
        """See Stream."""
        return not self._rest

    @property
    def unused_data(self) -> bytes:
        """See Stream."""
        return self._member.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        """See Stream."""
        piece = self._member.decompress(data or self._rest, max_length)
        self._rest = self._member.unconsumed_tail
        return piece


class BrotliStream:
    """So does brotli, which besides takes bytes behind the end for damage, and bounds its output by itself."""

    unused_data = b""

    def __init__(self) -> None:
        self._stream: Any = brotli.Decompressor()
        self._drained = True

    @property
    def eof(self) -> bool:
        """See Stream."""
        return bool(self._stream.is_finished())

    @property
    def needs_input(self) -> bool:
        """See Stream."""
        return self._drained and self._stream.can_accept_more_data()  # accepts input while it still holds output

    def decompress(self, data: bytes | memoryview, _max_length: int) -> bytes:
        """See Stream; may give more than ``max_length``, at most 480 KiB."""
        piece: bytes = self._stream.process(data, output_buffer_limit=_BROTLI_LIMIT_BYTES)
        self._drained = not piece
        return piece


def _begin_xz() -> Stream:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_MAX_BYTES)


BEGIN_STREAM: Mapping[str, Callable[[], Stream]] = MappingProxyType(
    {
        "xz": _begin_xz,
        "gzip": GzipMember,
        "bzip2": bz2.BZ2Decompressor,
        "br": BrotliStream,
        "lz4": lz4.frame.LZ4FrameDecompressor,
    }
)
