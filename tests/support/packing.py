"""Compress bytes in every way that Nix reads, solid or in frames."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from typing import TYPE_CHECKING

import brotli  # type: ignore[import-untyped]  # ships no annotations
import lz4.frame
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PACK: Mapping[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "xz": lambda nar: lzma.compress(nar, preset=1),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "gzip": lambda nar: gzip.compress(nar, compresslevel=1, mtime=0),
    "bzip2": bz2.compress,
    "br": lambda nar: brotli.compress(nar, quality=1),
    "lz4": lz4.frame.compress,
}


def pack(nar: bytes, compression: str, frame_bytes: int | None = None) -> bytes:
    """Compress as one solid blob, or in frames blocks of one stream (xz) or chained streams of that many bytes."""
    if frame_bytes is None:
        return _PACK[compression](nar)
    if compression == "xz":
        program = ["xz", "-1", f"--block-size={frame_bytes}"]
        return subprocess.run(program, input=nar, capture_output=True, check=True).stdout
    frames = (nar[start : start + frame_bytes] for start in range(0, len(nar), frame_bytes))
    return b"".join(map(_PACK[compression], frames))
