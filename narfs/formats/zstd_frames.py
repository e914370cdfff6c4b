"""Where the frames and blocks of a zstd stream lie, without decompressing anything.

::

    stream    = *( frame / skippable )
    frame     = magic descriptor [window] [dictionary id] [content size] 1*block [checksum]
    block     = u24 (last:1 type:2 size:21) body      raw: size bytes; RLE: 1 byte; compressed: size bytes
    skippable = 0x184D2A5? u32-size body

Two things need this and libzstd tells neither: how far the input may be fed before the output passes a bound (a block
of four bytes can become 128 KiB), and where each frame begins, so that later it can be fetched by itself.

Theory of operation: the walker collects one token (magic, header, block header) in ``_token``; its parser says how many
bytes then pass unseen (``_skip``) and how much output they can become. Tokens and bodies may be cut anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import zstandard

from narfs.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW_MAX_BYTES = 1 << 27
"""Nix (through libarchive and libzstd's default) refuses windowLog 28 and more; so do we, it is memory."""

BLOCK_MAX_BYTES = 128 * 1024

_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"  # after a byte 0x50 to 0x5f
_RLE, _COMPRESSED = 1, 2  # and 0 is raw
_CHECKSUM_BYTES = 4


class Stretch(NamedTuple):
    """Bytes ``start`` to ``end`` of the data just fed; decompressed at once they give at most ``stretch_bytes``."""

    start: int
    end: int


class FrameEnd(NamedTuple):
    """A frame ended before ``blob_end``. Unless ``content_size`` is known, every stretch of it came before."""

    blob_end: int
    content_size: int | None


class ZstdWalker:
    """Follows one zstd stream; ``feed`` must be exhausted before it is called again."""

    def __init__(self, stretch_bytes: int) -> None:
        self._stretch_bytes = stretch_bytes
        self._fed = 0
        self._token = bytearray()
        self._token_bytes = 5
        self._parse: Callable[[bytearray], int] = self._magic
        self._skip = 0
        self._last = False  # the frame ends after the bytes to skip
        self._content_size: int | None = 0
        self._block_max = 0
        self._checksum = False

    @property
    def between_frames(self) -> bool:
        """True where the stream may end."""
        return self._parse == self._magic and not self._token and not self._skip

    def feed(self, data: memoryview) -> Iterator[Stretch | FrameEnd]:
        """Cover ``data`` completely with stretches, and say where frames end. Raises FormatError."""
        begin = at = 0
        room = self._stretch_bytes - BLOCK_MAX_BYTES  # a block cut by the last feed may still come
        while True:
            step = min(self._skip, len(data) - at)
            at += step
            self._skip -= step
            if self._skip:
                break
            if self._last:
                self._last = False
                if self._content_size is None and begin < at:
                    yield Stretch(begin, at)
                    begin, room = at, self._stretch_bytes
                yield FrameEnd(self._fed + at, self._content_size)
            piece = data[at : at + self._token_bytes - len(self._token)]
            at += len(piece)
            self._token += piece
            if len(self._token) < self._token_bytes:
                break
            output_max = self._parse(self._token)
            if output_max > room:
                yield Stretch(begin, at)  # the block's body, and so its output, lies behind this cut
                begin, room = at, self._stretch_bytes
            room -= output_max
        if begin < at:
            yield Stretch(begin, at)
        self._fed += at

    def _expect(
        self, parse: Callable[[bytearray], int], token_bytes: int, *, begun_with: bytes | bytearray = b""
    ) -> None:
        self._parse = parse
        self._token = bytearray(begun_with)
        self._token_bytes = token_bytes

    def _magic(self, token: bytearray) -> int:
        if token.startswith(_MAGIC):
            descriptor = token[4]
            single_segment = descriptor >> 5 & 1
            content_size_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
            dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
            header_bytes = 5 + (1 - single_segment) + dictionary_bytes + content_size_bytes
            self._expect(self._header, header_bytes, begun_with=token)
        elif token[0] & 0xF0 == 0x50 and token[1:4] == _SKIPPABLE_MAGIC:
            self._expect(self._skippable, 8, begun_with=token)
        else:
            raise self._error("a zstd frame", f"bytes {token[:4].hex()}")
        return 0

    def _skippable(self, token: bytearray) -> int:
        self._skip = int.from_bytes(token[4:8], "little")
        self._content_size, self._last = 0, True
        self._expect(self._magic, 5)
        return 0

    def _header(self, token: bytearray) -> int:
        try:
            header = zstandard.get_frame_parameters(bytes(token))
        except zstandard.ZstdError as error:
            raise self._error("a zstd frame header", str(error)[:80]) from error
        if header.window_size > WINDOW_MAX_BYTES:
            raise self._error(f"a zstd window of at most {WINDOW_MAX_BYTES} bytes", f"{header.window_size}")
        unknown = header.content_size == zstandard.CONTENTSIZE_UNKNOWN
        self._content_size = None if unknown else header.content_size
        self._block_max = min(header.window_size, BLOCK_MAX_BYTES)
        self._checksum = header.has_checksum
        self._expect(self._block, 3)
        return 0

    def _block(self, token: bytearray) -> int:
        block = int.from_bytes(token, "little")
        kind, size = block >> 1 & 3, block >> 3
        self._last = bool(block & 1)
        if kind > _COMPRESSED:
            raise self._error("a zstd block of a known type", "the reserved type 3")
        self._skip = 1 if kind == _RLE else size
        if self._last and self._checksum:
            self._skip += _CHECKSUM_BYTES
        self._expect(self._magic, 5) if self._last else self._expect(self._block, 3)
        return self._block_max if kind == _COMPRESSED else min(size, self._block_max)

    def _error(self, expected: str, found: str) -> FormatError:
        return FormatError("zstd", offset=self._fed, expected=expected, found=found)
