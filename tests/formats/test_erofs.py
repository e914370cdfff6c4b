from __future__ import annotations

import random
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from narfs.errors import FormatError, UsageError
from narfs.formats.erofs.directory import directory_bytes, packed_bytes
from narfs.formats.erofs.image import FIRST_PART_BLOCK, Root, head, root_of
from narfs.formats.erofs.lot import lot_blocks, lot_key
from narfs.formats.erofs.part import Layout
from narfs.formats.erofs.slab import ALIGN_BLOCKS, SlabMap
from narfs.formats.listing import Kind, NarListing
from narfs.formats.ls import from_ls
from narfs.offsets import SlabOffset
from tests.support import trees
from tests.support.erofs import BLOCK, DEEP, MANY, VIEW, ErofsImage, make_view, write_slab
from tests.support.listings import listing_of
from tests.support.trees import ODD_TREE, File, Symlink, Tree, dump, nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_fsck = pytest.mark.skipif(which("fsck.erofs") is None, reason="needs fsck.erofs of erofs-utils")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        yield Path(place)


def names_of_view() -> st.SearchStrategy[bytes]:
    return st.text("abcdef0123", min_size=1, max_size=60).map(str.encode)


@needs_fsck
@settings(max_examples=40)
@given(st.dictionaries(names_of_view(), trees.trees(), max_size=4))
@example(VIEW)
def test_an_image_holds_exactly_the_trees_and_fsck_has_no_objection(view: dict[bytes, Tree]) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        made = make_view(Path(folder), view)
        made.check()
        assert made.read() == view


def test_views_are_made_of_the_same_parts(folder: Path) -> None:
    layout = Layout(listing_of(ODD_TREE))
    part = layout.part(FIRST_PART_BLOCK, 0)
    for number, view in enumerate(({b"a": ODD_TREE}, {b"b": ODD_TREE, b"c": DEEP})):
        (folder / str(number)).mkdir()
        made = make_view(folder / str(number), view)
        with made.image.open("rb") as image:
            image.seek(FIRST_PART_BLOCK * BLOCK)
            assert image.read(len(part)) == part


def test_two_paths_of_one_nar_share_files_and_have_their_own_directories(folder: Path) -> None:
    tree: Tree = {b"directory": {b"file": File(b"x"), b"link": Symlink(b"y")}}
    made = make_view(folder, {b"a": tree, b"b": tree, b"c": File(b"z"), b"d": File(b"z")})
    assert made.read() == {b"a": tree, b"b": tree, b"c": File(b"z"), b"d": File(b"z")}
    image = ErofsImage(made.image, made.slab)
    roots = image.entries(image.inode(image.root))
    assert roots[b"c"] == roots[b"d"]
    assert roots[b"a"] != roots[b"b"]
    one, other = (
        image.entries(image.inode(image.entries(image.inode(roots[name][0]))[b"directory"][0])) for name in (b"a", b"b")
    )
    image.close()
    assert (one[b"."] != other[b"."], one[b"file"], one[b"link"]) == (True, other[b"file"], other[b"link"])


@needs_fsck
@pytest.mark.parametrize("place", [1 << 28, (1 << 32) - 64])
def test_a_part_may_be_far_behind_the_head(folder: Path, place: int) -> None:
    made = make_view(folder, {b"far": ODD_TREE}, first_block=place)
    made.check()
    assert made.read() == {b"far": ODD_TREE}


@pytest.mark.parametrize("size", [(1 << 32) - 1, 1 << 32, 5 << 30, 8 << 40])
def test_large_files_are_whole(folder: Path, size: int) -> None:
    listing = from_ls(b'{"version":1,"root":{"type":"regular","size":%d}}' % size)
    layout = Layout(listing)
    part = layout.part(FIRST_PART_BLOCK, ALIGN_BLOCKS)
    (folder / "image").write_bytes(head([], inodes=0, nar_bytes=0).ljust(FIRST_PART_BLOCK * BLOCK, b"\0") + part)
    (folder / "slab").write_bytes(b"")
    image = ErofsImage(folder / "image", folder / "slab")
    inode = image.inode(FIRST_PART_BLOCK * BLOCK // 32)
    image.close()
    assert (inode.size, inode.slab_at) == (size, ALIGN_BLOCKS * BLOCK)
    assert layout.slab.blocks == -(-size // BLOCK)


@pytest.mark.parametrize("sizes", [[(8 << 40) + 1], [8 << 40, 8 << 40]])
def test_what_fits_into_no_slab_is_refused(sizes: list[int]) -> None:
    entries = b",".join(b'"%d":{"type":"regular","size":%d}' % each for each in enumerate(sizes))
    listing = from_ls(b'{"version":1,"root":{"type":"directory","entries":{%s}}}' % entries)
    with pytest.raises(FormatError, match="16 TiB"):
        Layout(listing)


def test_a_directory_may_have_more_subdirectories_than_16_bits_count(folder: Path) -> None:
    tree: Tree = {b"%x" % number: {} for number in range(65_534)}
    made = make_view(folder, {b"wide": tree})
    image = ErofsImage(made.image, made.slab)
    inode = image.inode(FIRST_PART_BLOCK * BLOCK // 32)
    assert (inode.links, len(image.entries(inode))) == (65_536, 65_536)
    image.close()


@given(st.lists(st.binary(min_size=1, max_size=255).filter(lambda name: name not in (b".", b"..")), unique=True))
@example([b"%0255d" % number for number in range(15)])
@example([b"%0255d" % number for number in range(40)])
@example([b"%034d" % number for number in range(88)])
@example([b"!", b"-", b".-", b"..-", b"a"])
def test_the_size_of_a_directory_follows_from_its_names(names: list[bytes]) -> None:
    names = sorted({name.replace(b"/", b"s").replace(b"\0", b"z") for name in names})
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        made = make_view(Path(folder), {b"a": {name: File() for name in names}})
        image = ErofsImage(made.image, made.slab)
        inode = image.inode(FIRST_PART_BLOCK * BLOCK // 32)
        assert sorted(image.entries(inode)) == sorted([*names, b".", b".."])
        assert inode.size == packed_bytes(names) == directory_bytes(listing_of({name: File() for name in names}), 0)
        image.close()


@given(trees.trees())
@example(ODD_TREE)
@example(MANY)
@example(File(b"x" * 4096))
@example({b"%d" % number: File(b"x" * 4097) for number in range(300)})
@example({b"%02d" % number: Symlink(b"l" * 2200) for number in range(60)})
@example({b"n" * 200 + b"%02d" % number: {b"m" * 255: {b"o" * 255: File()}} for number in range(60)})
def test_a_lot_is_large_enough_and_known_without_laying_out(tree: Tree) -> None:
    listing = listing_of(tree)
    layout = Layout(listing)
    blocks, slab_blocks = lot_blocks(listing, len(dump(tree)))
    assert blocks >= layout.blocks
    assert slab_blocks >= layout.slab.range_blocks
    assert slab_blocks % ALIGN_BLOCKS == 0


def test_lots_of_different_contents_or_trees_are_different() -> None:
    one, other = listing_of({b"a": File(b"x")}), listing_of({b"b": File(b"x")})
    assert lot_key(b"h" * 32, one) == lot_key(b"h" * 32, listing_of({b"a": File(b"y")}))
    assert len({lot_key(b"h" * 32, one), lot_key(b"g" * 32, one), lot_key(b"h" * 32, other)}) == 3


def test_too_many_store_paths_are_refused_with_a_way_out() -> None:
    roots = [Root(b"%0211d" % number, number, Kind.REGULAR) for number in range(80_000)]
    with pytest.raises(UsageError, match="--frontend tree"):
        head(roots, inodes=0, nar_bytes=0)
    assert len(head(roots[:61_000], inodes=0, nar_bytes=0)) <= FIRST_PART_BLOCK * BLOCK


@pytest.mark.parametrize("bases", [(-1, 0), (0, -1), ((1 << 32) - 1, 0), (0, (1 << 32) - 1)])
def test_a_place_without_room_is_a_mistake_of_the_caller(bases: tuple[int, int]) -> None:
    layout = Layout(listing_of(ODD_TREE))
    with pytest.raises(ValueError, match="no room"):
        layout.part(*bases)


@given(trees.trees(), st.data())
def test_the_slab_is_made_of_spans_of_the_nar_and_zeros(tree: Tree, data: st.DataObject) -> None:
    nar, listing = dump(tree), listing_of(tree)
    layout = Layout(listing)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "slab")
        place.write_bytes(b"")
        write_slab(place, layout, listing, nar, 0)
        slab = place.read_bytes()
    assert len(slab) == layout.slab.range_blocks * BLOCK
    start = data.draw(st.integers(0, len(slab)))
    length = data.draw(st.integers(0, 200_000))
    answer = bytearray(length)
    last = start
    for node, _, _, at, span in layout.slab.spans(SlabOffset(start), length):
        assert listing_of(tree).node(node).nar_offset <= span.start
        assert last <= at < at + span.length <= start + length
        answer[at - start : at - start + span.length] = nar[span.start : span.end]
        last = at + span.length
    assert bytes(answer).ljust(length, b"\0")[: len(slab) - start] == slab[start : start + length]


@given(trees.trees())
def test_a_nar_without_contents_needs_no_slab_and_any_other_leaves_a_gap(tree: Tree) -> None:
    slab = SlabMap(listing_of(tree))
    contents = sum(-(-len(node.contents) // BLOCK) for _, node in nodes(tree) if isinstance(node, File))
    assert slab.blocks == contents
    assert slab.range_blocks % ALIGN_BLOCKS == 0
    assert slab.range_blocks - slab.blocks >= (64 if contents else 0)
    assert not contents or slab.range_blocks - slab.blocks < 64 + ALIGN_BLOCKS


@given(trees.trees(), st.integers(1, 5), st.data())
def test_a_map_that_grows_has_what_was_asked_for_and_is_the_whole_one_in_the_end(
    tree: Tree, nodes_each: int, data: st.DataObject
) -> None:
    whole = SlabMap(listing_of(tree))
    grown = SlabMap(listing_of(tree), whole=False)
    for _ in range(3):
        end = SlabOffset(data.draw(st.integers(0, (whole.blocks + 1) * BLOCK)))
        while not grown.reaches(end):
            grown.grow(nodes_each)
        assert list(grown.spans(SlabOffset(0), end)) == list(whole.spans(SlabOffset(0), end))
    grown.grow(len(whole.starts))
    assert (grown.starts, grown.blocks) == (whole.starts, whole.blocks)


@given(trees.trees(), st.integers(0, 2**32))
def test_a_listing_that_lies_is_a_format_error_or_an_image_and_nothing_else(tree: Tree, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - hypothesis shrinks the seed better than a list of places
    buffers = [bytearray(buffer) for buffer in listing_of(tree).buffers]
    for _ in range(chance.randint(1, 4)):
        buffer = chance.choice([buffer for buffer in buffers if buffer])
        buffer[chance.randrange(len(buffer))] = chance.choice((0, 1, 2, 3, 0x7F, 0xFF))
    with suppress(FormatError):
        layout = Layout(NarListing(*(memoryview(buffer) for buffer in buffers)))
        if layout.slab.blocks < 1 << 31 and layout.blocks < 1 << 16:
            layout.part(FIRST_PART_BLOCK, 0)


def test_statfs_and_modes_are_in_the_head() -> None:
    out = head([Root(b"a", 1 << 20, Kind.DIRECTORY)], inodes=7, nar_bytes=4097)
    assert int.from_bytes(out[1024 + 16 : 1024 + 24], "little") == 7
    assert int.from_bytes(out[1152 + 64 : 1152 + 68], "little") == 2
    assert int.from_bytes(out[BLOCK + 4 : BLOCK + 6], "little") == stat.S_IFDIR | 0o555


@pytest.mark.parametrize("part", [b"", bytes(31), bytes(64), b"\xff" * 32])
def test_a_part_that_begins_with_no_inode_of_ours_is_refused(part: bytes) -> None:
    with pytest.raises(FormatError):
        root_of(b"a", part, FIRST_PART_BLOCK)
