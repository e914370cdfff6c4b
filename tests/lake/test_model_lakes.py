"""The lakes that other tests are built on are true binary caches."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from narfs.formats.cache_info import CacheInfo
from narfs.formats.compression import KNOWN, decoder
from narfs.formats.ls import from_ls
from narfs.formats.narinfo import NarInfo
from narfs.formats.signature import PublicKeys
from tests.support.lakes import Lake, Recipe
from tests.support.trees import ODD_TREE, File, Tree, dump, from_listing

if TYPE_CHECKING:
    from pathlib import Path

TREE: Tree = {b"bin": {b"tool": File(b"#!/bin/sh\n" * 3000, executable=True)}, b"odd": ODD_TREE}


@pytest.mark.parametrize(
    ("compression", "frame_bytes"),
    [*((name, None) for name in KNOWN), *((name, 10_000) for name in KNOWN if name != "br")],
)
def test_a_member_can_be_read_back_from_its_files(tmp_path: Path, compression: str, frame_bytes: int | None) -> None:
    lake = Lake(tmp_path)
    member = lake.add("tool", TREE, Recipe(compression, frame_bytes))
    narinfo = NarInfo.parse(lake.narinfo_file(member.path).read_bytes(), expect=member.path)
    assert narinfo == member.narinfo
    blob = (tmp_path / narinfo.url).read_bytes()
    decoding = decoder(narinfo.compression, nar_size=narinfo.nar_size)
    assert b"".join(decoding.feed(blob)) == member.nar == dump(TREE)
    decoding.finish()
    assert (decoding.frames() is not None) == (frame_bytes is not None and compression in ("xz", "zstd"))
    assert narinfo.file_hash is not None
    assert (narinfo.file_hash.digest, narinfo.file_size) == (hashlib.sha256(blob).digest(), len(blob))


def test_paths_are_signed_and_content_addressed_unless_ordered_otherwise(tmp_path: Path) -> None:
    lake = Lake(tmp_path, priority=7)
    keys = PublicKeys.parse(lake.trusted_public_keys)
    base = lake.add("base", TREE)
    user = lake.add("user", TREE, Recipe(content_addressed=False), [base.path])
    bare = lake.add("bare", TREE, Recipe(signed=False))
    assert keys.verify(user.narinfo.fingerprint, user.narinfo.signatures) == "lake.test-1"
    assert user.narinfo.references == (base.path,)
    assert [member.narinfo.content_address_matches() for member in (base, user, bare)] == [True, False, True]
    assert not bare.narinfo.signatures
    assert CacheInfo.parse((tmp_path / "nix-cache-info").read_bytes()).priority == 7


def test_a_listing_is_written_on_order(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    tree: Tree = {b"a": File(b"contents"), b"b": {b"c": File(b"", executable=True)}}
    member = lake.add("listed", tree, Recipe(listing=True))
    listing = from_ls((tmp_path / f"{member.path.hash_part}.ls").read_bytes())
    assert from_listing(listing, member.nar) == member.tree == tree
