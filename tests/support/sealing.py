"""Sealed NARs in memory, made the way push makes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from narfs.formats import base32
from narfs.formats.digest import Hash
from narfs.formats.index import NarIndex
from narfs.formats.nar import NarIndexer
from narfs.formats.narinfo import NarInfo
from narfs.formats.sealed_blob import NarCutter, SealedBlob, seal_frame
from narfs.formats.store_path import make_source_path
from tests.support.trees import Tree, dump


@dataclass(frozen=True, slots=True)
class Sealed:
    """A NAR, its sealed blob, and what is true of both."""

    nar: bytes
    blob: bytes
    narinfo: NarInfo
    index: NarIndex


def seal_tree(name: str, tree: Tree, *, frame_bytes: int, piece_bytes: int = 1 << 20) -> Sealed:
    nar = dump(tree)
    indexer, made = NarIndexer(len(nar)), SealedBlob(frame_bytes)
    cutter = NarCutter(indexer.builder, frame_bytes=frame_bytes)
    blob = b""
    for start in range(0, len(nar), piece_bytes):
        piece = nar[start : start + piece_bytes]
        indexer.feed(piece)
        blob += b"".join(made.add(seal_frame(contents)) for contents in cutter.feed(piece))
    blob += b"".join(made.add(seal_frame(contents)) for contents in cutter.finish())
    blob += made.finish()
    nar_hash, file_hash = hashlib.sha256(nar).digest(), hashlib.sha256(blob).digest()
    narinfo = NarInfo(
        path=make_source_path(name, nar_hash),
        url=f"nar/{base32.encode(file_hash)}.nar.zst",
        compression="zstd",
        nar_hash=nar_hash,
        nar_size=len(nar),
        file_hash=Hash("sha256", file_hash),
        file_size=len(blob),
        ca=f"fixed:r:{Hash('sha256', nar_hash).nix32}",
    )
    index = NarIndex(nar_hash, len(nar), indexer.finish(), made.grid, made.digests, made.frames)
    return Sealed(nar, blob, narinfo, index)
