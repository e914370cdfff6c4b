"""Sealed NARs, made the way push makes them: in memory and in a lake."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from narfs.formats import base32
from narfs.formats.digest import Hash
from narfs.formats.frames import FrameTable
from narfs.formats.index import NarIndex
from narfs.formats.nar import NarIndexer
from narfs.formats.narinfo import NarInfo
from narfs.formats.seal import index_name, seal
from narfs.formats.sealed_blob import FrameSealer, NarCutter, SealedBlob, SealedFrame
from narfs.formats.store_path import StorePath, make_source_path
from narfs.offsets import ChunkGrid
from tests.support.lakes import Lake, Member
from tests.support.trees import File, Tree, dump

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.formats.signature import SecretKey


@dataclass(frozen=True, slots=True)
class Sealed:
    """A NAR, its sealed blob, and what is true of both."""

    nar: bytes
    blob: bytes
    narinfo: NarInfo
    index: NarIndex


def add_sealed(
    lake: Lake,
    name: str,
    tree: Tree,
    index_key: SecretKey,
    *,
    frame_bytes: int = 64 * 1024,
    index_store: Lake | None = None,
    references: tuple[StorePath, ...] = (),
) -> Member:
    """Add a path to a lake as push seals it; with ``index_store`` its index is there, and the narinfo knows of none."""
    sealed = seal_tree(name, tree, frame_bytes=frame_bytes, references=references)
    narinfo = sealed.narinfo.sign(lake.secret_key)
    if index_store is None:
        narinfo = narinfo.with_index(index_name(narinfo.path))
    (lake.directory / narinfo.url).write_bytes(sealed.blob)
    index_file(index_store or lake, narinfo).write_bytes(seal(sealed.index, narinfo, [index_key], page_chunks=8))
    lake.put(narinfo)
    return Member(narinfo, tree, sealed.nar)


def index_file(lake: Lake, narinfo: NarInfo) -> Path:
    return lake.directory / index_name(narinfo.path)


def seal_tree(
    name: str, tree: Tree, *, frame_bytes: int, piece_bytes: int = 1 << 20, references: tuple[StorePath, ...] = ()
) -> Sealed:
    nar = dump(tree)
    indexer, made, sealer = NarIndexer(len(nar)), SealedBlob(frame_bytes), FrameSealer()
    cutter = NarCutter(indexer.builder, frame_bytes=frame_bytes)
    blob = b""
    for start in range(0, len(nar), piece_bytes):
        piece = nar[start : start + piece_bytes]
        indexer.feed(piece)
        blob += b"".join(made.add(sealer.seal(contents)) for contents in cutter.feed(piece))
    blob += b"".join(made.add(sealer.seal(contents)) for contents in cutter.finish())
    blob += made.finish()
    nar_hash, file_hash = hashlib.sha256(nar).digest(), hashlib.sha256(blob).digest()
    narinfo = NarInfo(
        path=make_source_path(name, nar_hash, references),
        url=f"nar/{base32.encode(file_hash)}.nar.zst",
        compression="zstd",
        nar_hash=nar_hash,
        nar_size=len(nar),
        references=references,
        file_hash=Hash("sha256", file_hash),
        file_size=len(blob),
        ca=f"fixed:r:{Hash('sha256', nar_hash).nix32}",
    )
    index = NarIndex(nar_hash, len(nar), indexer.finish(), made.grid, made.digests, made.frames)
    return Sealed(nar, blob, narinfo, index)


def huge_index(nar_size: int, *, frame_bytes: int = 256 * 1024) -> tuple[NarIndex, NarInfo, SealedFrame]:
    """Describe ``nar_size`` zeros in frames that are all the one that is given: an index too long to fetch whole.

    The tree is a smaller one's, and no NarHash is true: the whole of it cannot pass.
    """
    small = seal_tree("huge", {b"zeros": File(bytes(2 * frame_bytes))}, frame_bytes=frame_bytes)
    frame = FrameSealer().seal(bytes(frame_bytes))
    cuts = array("Q", range(0, nar_size, frame_bytes))
    blob_bounds = array("Q", range(0, len(frame.blob) * (len(cuts) + 1), len(frame.blob)))
    frames = FrameTable("zstd", blob_bounds[-1], blob_bounds, array("Q", (*cuts, nar_size)))
    nar_hash = hashlib.sha256(b"huge").digest()
    grid = ChunkGrid(nar_size, frame_bytes, cuts)
    index = NarIndex(nar_hash, nar_size, small.index.listing, grid, frame.digest * len(cuts), frames)
    path = StorePath.from_digest(nar_hash[:20], "huge")
    narinfo = replace(
        small.narinfo, path=path, nar_hash=nar_hash, nar_size=nar_size, file_size=frames.blob_size, ca=None
    )
    return index, narinfo, frame
