"""Binary caches on disk, made from model trees: nix-cache-info, narinfos, ``nar/<FileHash>.nar.<ending>``, ``.ls``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from narfs.formats import base32
from narfs.formats.cache_info import CacheInfo
from narfs.formats.compression import KNOWN
from narfs.formats.digest import Hash
from narfs.formats.ls import to_ls
from narfs.formats.nar import NarIndexer
from narfs.formats.narinfo import NarInfo
from narfs.formats.signature import SecretKey
from narfs.formats.store_path import StorePath, make_source_path
from tests.support.packing import pack
from tests.support.trees import Tree, dump

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a store path gets into a lake.

    ``frame_bytes`` cuts the NAR into frames (zstd), blocks of one stream (xz), or chained streams (the others but br).
    """

    compression: str = "zstd"
    frame_bytes: int | None = None
    content_addressed: bool = True
    signed: bool = True
    listing: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """One store path of a lake, and the truth about it."""

    narinfo: NarInfo
    tree: Tree | None
    nar: bytes

    @property
    def path(self) -> StorePath:
        return self.narinfo.path


class Lake:
    """A directory that is a binary cache. Whatever it holds may be overwritten to make it lie."""

    def __init__(self, directory: Path, *, key_name: str = "lake.test-1", priority: int = 50) -> None:
        self.directory = directory
        self.secret_key = SecretKey.generate(key_name)
        (directory / "nar").mkdir(parents=True, exist_ok=True)
        info = CacheInfo(want_mass_query=True, priority=priority)
        (directory / "nix-cache-info").write_bytes(info.to_bytes())

    @property
    def url(self) -> str:
        return f"file://{self.directory}"

    @property
    def trusted_public_keys(self) -> str:
        return str(self.secret_key.public)

    def add(self, name: str, tree: Tree, recipe: Recipe = Recipe(), references: Iterable[StorePath] = ()) -> Member:
        return replace(self.add_nar(name, dump(tree), recipe, references), tree=tree)

    def add_nar(self, name: str, nar: bytes, recipe: Recipe = Recipe(), references: Iterable[StorePath] = ()) -> Member:
        """Add any bytes as the NAR, also such as are none (without ``listing``)."""
        nar_hash = hashlib.sha256(nar).digest()
        blob = pack(nar, recipe.compression, recipe.frame_bytes)
        file_hash = hashlib.sha256(blob).digest()
        narinfo = NarInfo(
            path=_path(name, nar_hash, tuple(references), recipe),
            url=f"nar/{base32.encode(file_hash)}.nar{KNOWN[recipe.compression]}",
            compression=recipe.compression,
            nar_hash=nar_hash,
            nar_size=len(nar),
            references=tuple(references),
            file_hash=Hash("sha256", file_hash),
            file_size=len(blob),
            ca=f"fixed:r:{Hash('sha256', nar_hash).nix32}" if recipe.content_addressed else None,
        )
        (self.directory / narinfo.url).write_bytes(blob)
        if recipe.listing:
            indexer = NarIndexer(len(nar))
            indexer.feed(nar)
            (self.directory / f"{narinfo.path.hash_part}.ls").write_bytes(to_ls(indexer.finish()))
        if recipe.signed:
            narinfo = narinfo.sign(self.secret_key)
        self.put(narinfo)
        return Member(narinfo, None, nar)

    def put(self, narinfo: NarInfo) -> None:
        """Write a narinfo as it stands, in place of an older one."""
        self.narinfo_file(narinfo.path).write_bytes(narinfo.to_bytes())

    def narinfo_file(self, path: StorePath) -> Path:
        return self.directory / f"{path.hash_part}.narinfo"

    def blob_file(self, member: Member) -> Path:
        return self.directory / member.narinfo.url


def _path(name: str, nar_hash: bytes, references: tuple[StorePath, ...], recipe: Recipe) -> StorePath:
    if recipe.content_addressed:
        return make_source_path(name, nar_hash, references)
    return StorePath.from_digest(hashlib.sha256(b"built:" + name.encode() + nar_hash).digest()[:20], name)
