"""Lakes that ``nix copy`` does not write, made of one that it wrote without compression."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import zstandard

from narfs.formats.digest import Hash
from narfs.formats.narinfo import NarInfo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from narfs.formats.store_path import StorePath

_FRAME_BYTES = 16 << 20
_LEVEL = 3
"""zstd's default, which ``nix copy`` uses too."""


def seal(source: Path, target: Path, paths: Iterable[StorePath], key_file: Path, public_key: str) -> None:
    """Copy with ``narfs seal``; one key signs narinfos and indexes."""
    keys = ("--secret-key-file", key_file, "--trusted-public-keys", public_key)
    stores = ("--store", f"file://{source}", "--to", f"file://{target}")
    names = [path.path for path in paths]
    subprocess.run(
        (sys.executable, "-m", "narfs", "seal", *stores, *keys, *names), check=True, stdout=subprocess.DEVNULL
    )


def frame(source: Path, target: Path) -> None:
    """Copy into zstd frames of 16 MiB with content size, without a seek table, as Nix ≥ 2.35 writes them."""
    (target / "nar").mkdir()
    shutil.copy(source / "nix-cache-info", target)
    for file in source.glob("*.narinfo"):
        narinfo = NarInfo.parse(file.read_bytes(), expect=file.stem)
        blob = _framed((source / narinfo.url).read_bytes())
        file_hash = Hash("sha256", hashlib.sha256(blob).digest())
        url = f"nar/{file_hash.nix32}.nar.zst"
        (target / url).write_bytes(blob)
        described = replace(narinfo, url=url, compression="zstd", file_hash=file_hash, file_size=len(blob))
        (target / file.name).write_bytes(described.to_bytes())


def _framed(nar: bytes) -> bytes:
    compress = partial(_compressed, nar)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return b"".join(threads.map(compress, range(0, len(nar), _FRAME_BYTES)))


def _compressed(nar: bytes, start: int) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(nar[start : start + _FRAME_BYTES])
