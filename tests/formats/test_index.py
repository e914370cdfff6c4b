from __future__ import annotations

import hashlib
import mmap
from array import array
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats.frames import FrameTable
from narfs.formats.index import NarIndex
from narfs.formats.signature import SecretKey
from narfs.offsets import ChunkGrid
from tests.support import trees
from tests.support.listings import ask_everything, listing_of
from tests.support.trees import ODD_TREE, Tree, dump, from_listing

if TYPE_CHECKING:
    from pathlib import Path


VOUCHER = SecretKey.generate("index.test-1").public


def index_of(tree: Tree, *, framed: bool = False, chunk_bytes: int = 256) -> NarIndex:
    """Make an index; a framed one has explicit cuts too, and somebody who vouches for it."""
    nar = dump(tree)
    cuts = array("Q", [0, 40, *range(64, len(nar), chunk_bytes)]) if framed else None
    grid = ChunkGrid(len(nar), chunk_bytes, cuts)
    spans = map(grid.span, range(grid.count))
    return NarIndex(
        nar_hash=hashlib.sha256(nar).digest(),
        nar_size=len(nar),
        listing=listing_of(tree),
        grid=grid,
        digests=b"".join(hashlib.sha256(nar[span.start : span.end]).digest() for span in spans),
        frames=FrameTable("zstd", 100, array("Q", [0, 40, 100]), array("Q", [0, 50, len(nar)])) if framed else None,
        voucher=VOUCHER if framed else None,
    )


def reseal(encoded: bytes) -> bytes:
    """Give bytes that are not what they should be the checksum of what they are."""
    return encoded[:-32] + hashlib.sha256(encoded[:-32]).digest()


@given(trees.trees(), st.booleans())
def test_what_is_written_reads_as_the_same_index(tree: Tree, framed: bool) -> None:
    index = index_of(tree, framed=framed)
    assert NarIndex.from_bytes(index.to_bytes()) == index


def test_an_index_is_read_in_place_from_a_mapped_file(tmp_path: Path) -> None:
    index = index_of(ODD_TREE)
    path = tmp_path / "index"
    path.write_bytes(index.to_bytes())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        loaded = NarIndex.from_bytes(memoryview(mapped))
        assert loaded == index
        assert from_listing(loaded.listing, dump(ODD_TREE)) == ODD_TREE
        assert loaded.digest(3) == index.digest(3)
        assert isinstance(loaded.digests, memoryview)
        for view in (*loaded.listing.buffers, loaded.digests):
            assert view.obj is mapped
        del loaded, view


@pytest.mark.parametrize("length", [0, 7, 8, 95, 200, -1, -32])
def test_a_cut_index_is_refused(length: int) -> None:
    with pytest.raises(FormatError):
        NarIndex.from_bytes(index_of(ODD_TREE).to_bytes()[:length])


def test_an_index_with_junk_behind_is_refused() -> None:
    with pytest.raises(FormatError):
        NarIndex.from_bytes(index_of(ODD_TREE).to_bytes() + b"\0")


@given(st.data())
def test_a_changed_index_is_refused(data: st.DataObject) -> None:
    encoded = bytearray(index_of({b"a": {}}, framed=True).to_bytes())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        NarIndex.from_bytes(bytes(encoded))


@given(trees.trees(), st.booleans(), st.data())
def test_nothing_but_a_format_error_comes_from_a_wrong_index_with_a_right_checksum(
    tree: Tree, framed: bool, data: st.DataObject
) -> None:
    encoded = bytearray(index_of(tree, framed=framed).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 33))] = data.draw(st.sampled_from([0, 1, 2, 8, 127, 255]))
    with suppress(FormatError):
        ask_everything(NarIndex.from_bytes(reseal(bytes(encoded))).listing)


def test_another_version_is_refused_by_its_number() -> None:
    encoded = bytearray(index_of({}).to_bytes())
    encoded[8] = 1
    with pytest.raises(FormatError, match="version 2, found 1"):
        NarIndex.from_bytes(reseal(bytes(encoded)))


def test_parts_that_do_not_belong_together_are_refused() -> None:
    index = index_of(ODD_TREE, framed=True)
    other = index_of({b"a": trees.File(b"")}, framed=True)
    for wrong in (
        {"nar_hash": b"short"},
        {"nar_size": index.nar_size + 1},
        {"grid": ChunkGrid(index.nar_size, 512)},
        {"grid": ChunkGrid(index.nar_size, 255, index.grid.cuts)},
        {"grid": ChunkGrid(index.nar_size, 256, array("Q", [1, *list(index.grid.cuts or ())[1:]]))},
        {"grid": ChunkGrid(index.nar_size, 256, array("Q", [0, 0, *list(index.grid.cuts or ())[2:]]))},
        {"digests": bytes(32)},
        {"frames": other.frames},
    ):
        with pytest.raises(FormatError):
            replace(index, **wrong)
    with pytest.raises(FormatError, match="nodes that fit"):
        replace(other, listing=index.listing)
