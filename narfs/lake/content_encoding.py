"""Undoing the Content-Encoding of a small object, bounded in size.

``.ls`` files on cache.nixos.org are stored with ``br``, whatever the client accepts. httpx would undo that too, but
without a bound: 64 KiB of brotli can stand for gigabytes. Here the encoded object is already in memory (and bounded),
and the decoders are told how much they may give.
"""

from __future__ import annotations

import zlib

import brotli  # type: ignore[import-untyped]  # ships no annotations
import zstandard

from narfs.errors import Corrupt

ACCEPTED = "br, zstd, gzip"
_MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""What RFC 9659 allows a zstd Content-Encoding to need."""


def decode(encoding: str, data: bytes, *, max_bytes: int, what: str) -> bytes:
    """Undo ``encoding``, as a Content-Encoding header names it; Corrupt if that fails or gives over ``max_bytes``."""
    for name in reversed([word.strip().lower() for word in encoding.split(",")]):
        decoder = _DECODERS.get(name)
        if decoder is None:
            raise Corrupt(f"{what}: its Content-Encoding {name!r} is none that narfs asked for")
        try:
            data, complete = decoder(data, max_bytes + 1)
        except (brotli.error, zlib.error, zstandard.ZstdError) as error:
            raise Corrupt(f"{what}: broken {name}: {error}") from error
        if len(data) > max_bytes:
            raise Corrupt(f"{what}: is longer than {max_bytes} bytes once decoded")
        if not complete:
            raise Corrupt(f"{what}: its {name} body is cut short")
    return data


def _identity(data: bytes, _limit: int) -> tuple[bytes, bool]:
    return data, True


def _gzip(data: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)
    return decompressor.decompress(data, limit), decompressor.eof


def _brotli(data: bytes, limit: int) -> tuple[bytes, bool]:
    decompressor = brotli.Decompressor()
    return decompressor.process(data, output_buffer_limit=limit), decompressor.is_finished()


def _zstd(data: bytes, limit: int) -> tuple[bytes, bool]:
    # The library does not tell a cut frame from a whole one; a broken connection was noticed before, by its length.
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    pieces = []
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        while limit > 0 and (piece := reader.read(min(limit, 1024 * 1024))):
            pieces.append(piece)
            limit -= len(piece)
    return b"".join(pieces), True


_DECODERS = {
    "": _identity,
    "identity": _identity,
    "br": _brotli,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "zstd": _zstd,
}
