from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats.growing import PENDING, GrowingListing
from narfs.formats.listing import RECORD_BYTES, Kind, NarListing
from narfs.formats.ls import layout, to_ls
from narfs.formats.nar import NarIndexer
from tests.support import trees
from tests.support.listings import ask_everything, listing_of
from tests.support.trees import ODD_TREE, File, Symlink, Tree, dump, nodes

if TYPE_CHECKING:
    from collections.abc import Iterator


@given(trees.trees())
def test_every_node_is_what_it_is_in_the_model(tree: Tree) -> None:
    listing = listing_of(tree)
    model = list(nodes(tree))
    assert list(listing.walk()) == [(path, node) for node, (path, _) in enumerate(model)]
    assert listing.count_files() == sum(isinstance(inner, File) for _, inner in model)
    for id_, (path, inner) in enumerate(model):
        node = listing.node(id_)
        assert node.id == id_ == listing.find(path)
        assert listing.path_of(id_) == path
        assert listing.name(id_) == path.rpartition(b"/")[2]
        assert listing.node(node.parent).id == listing.find(path.rpartition(b"/")[0])
        assert listing.kind(id_) is node.kind
        match inner:
            case File(contents, executable):
                assert (node.kind, node.executable, node.size) == (Kind.REGULAR, executable, len(contents))
                assert list(listing.children(id_)) == []
            case Symlink(target):
                assert (node.kind, node.size, listing.target(id_)) == (Kind.SYMLINK, len(target), target)
            case _:
                subdirectories = sum(isinstance(child, dict) for child in inner.values())
                assert (node.kind, node.size, node.subdirectories) == (Kind.DIRECTORY, len(inner), subdirectories)
                assert [listing.name(child) for child in listing.children(id_)] == sorted(inner)


@given(trees.trees(), trees.names())
def test_a_name_is_found_where_the_model_has_it(tree: Tree, name: bytes) -> None:
    listing = listing_of(tree)
    for id_, (_, inner) in enumerate(nodes(tree)):
        child = listing.child(id_, name)
        assert (child is not None) == (isinstance(inner, dict) and name in inner)
        assert child is None or listing.name(child) == name


@pytest.mark.parametrize("path", [b"/", b"a/", b"/a", b"below//deeper", b"a/b", b"link/x", b"nothing", b"below/.."])
def test_a_path_is_followed_name_by_name_and_never_through_symlinks(path: bytes) -> None:
    assert listing_of(ODD_TREE).find(path) is None


@given(trees.trees(), trees.trees())
def test_listings_are_equal_when_trees_and_sizes_of_contents_are(one: Tree, other: Tree) -> None:
    def outline(tree: Tree) -> list[object]:
        return [(path, (len(t.contents), t.executable) if isinstance(t, File) else t) for path, t in nodes(tree)]

    assert (listing_of(one) == listing_of(other)) == (outline(one) == outline(other))


def test_100_000_files_take_less_than_6_mb() -> None:
    listing = listing_of({b"a file with 24 letters%02x" % n: File(b"") for n in range(256)})
    assert sum(map(len, listing.buffers)) / len(listing) < 60


# Buffers from elsewhere.


def test_buffers_that_cannot_belong_together_are_refused() -> None:
    names, children = memoryview(b""), memoryview(b"")
    for size in 0, RECORD_BYTES - 1, RECORD_BYTES + 1, 2 * RECORD_BYTES:
        with pytest.raises(FormatError):
            NarListing(memoryview(bytes(size)), names, children)


@given(trees.trees(), st.data())
def test_nothing_but_a_format_error_comes_from_wrong_records(tree: Tree, data: st.DataObject) -> None:
    buffers = [bytearray(buffer) for buffer in listing_of(tree).buffers]
    for _ in range(data.draw(st.integers(1, 8))):
        buffer = data.draw(st.sampled_from([buffer for buffer in buffers if buffer]))
        buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.sampled_from([0, 1, 2, 3, 127, 255]))
    wrong = NarListing(memoryview(buffers[0]), memoryview(buffers[1]), memoryview(buffers[2]))
    with suppress(FormatError):
        ask_everything(wrong)
    with suppress(FormatError):
        layout(wrong)
    with suppress(FormatError):
        to_ls(wrong)


@pytest.mark.parametrize("ask", ["node", "kind", "name", "target", "children"])
def test_a_node_that_is_not_there_is_a_format_error(ask: str) -> None:
    listing = listing_of({b"a": {}})
    with pytest.raises(FormatError, match="node 2"):
        getattr(listing, ask)(2)


@pytest.mark.parametrize("ask", ["node", "kind", "target", "children"])
def test_a_node_of_no_kind_is_a_format_error(ask: str) -> None:
    nodes, names, children = map(bytearray, listing_of({}).buffers)
    nodes[25] |= 3  # docstring of listing.py: the kind stands behind the length of the name
    with pytest.raises(FormatError, match="known kind"):
        getattr(NarListing(memoryview(nodes), memoryview(names), memoryview(children)), ask)(0)


def test_a_listing_equals_nothing_else() -> None:
    listing = listing_of({})
    assert listing != "listing"
    assert repr(listing) == "<NarListing of 1 nodes>"


# A mirror in another process.


def mirrored(tree: Tree, cuts: list[int]) -> Iterator[GrowingListing]:
    """Grow a mirror, one delta after each cut."""
    nar = dump(tree)
    indexer, mirror = NarIndexer(len(nar)), GrowingListing()
    begin = 0
    for end in [*sorted(cuts), len(nar)]:
        indexer.feed(nar[begin:end])
        mirror.apply(indexer.builder.take_delta())
        begin = end
        yield mirror
    assert indexer.finish() == listing_of(tree)


@given(trees.trees(), trees.names(), st.data())
def test_a_mirror_never_says_what_the_whole_tree_would_not(tree: Tree, name: bytes, data: st.DataObject) -> None:
    truth = listing_of(tree)
    cuts = data.draw(st.lists(st.integers(0, len(dump(tree))), max_size=5))
    mirror = GrowingListing()
    for mirror in mirrored(tree, cuts):
        for id_ in range(len(mirror)):
            children = mirror.children(id_)
            closed = children is not PENDING
            if children is not PENDING:
                assert list(children) == list(truth.children(id_))
            assert mirror.name(id_) == truth.name(id_)
            assert mirror.target(id_) == truth.target(id_)
            assert mirror.node(id_) == (
                truth.node(id_) if closed else truth.node(id_)._replace(size=0, subdirectories=0)
            )
            for wanted in [name, *map(truth.name, truth.children(id_))]:
                found = mirror.child(id_, wanted)
                assert found == truth.child(id_, wanted) or (found is PENDING and not closed)
    assert len(mirror) == len(truth)
    assert all(mirror.children(id_) is not PENDING for id_ in range(len(mirror)))


def test_in_an_open_directory_what_passed_is_known_and_what_comes_is_pending() -> None:
    tree: Tree = {b"a": File(b"1"), b"c": {b"x": File(b"2"), b"z": File(b"3")}, b"d": File(b"4")}
    nar = dump(tree)
    indexer, mirror = NarIndexer(len(nar)), GrowingListing()
    indexer.feed(nar[: nar.index(trees.strings(b"name", b"z"))])
    mirror.apply(indexer.builder.take_delta())
    assert mirror.child(0, b"a") == 1
    assert mirror.child(0, b"b") is None
    assert mirror.child(0, b"c") == 2
    assert mirror.child(0, b"d") is PENDING
    assert mirror.child(2, b"w") is None
    assert mirror.child(2, b"y") is PENDING
    assert mirror.children(2) is PENDING


def test_nodes_are_found_by_name_and_of_very_many_the_first() -> None:
    few = listing_of({b"ab": {b"a": File(), b"b": Symlink(b"a")}, b"c": {b"a": File()}})
    assert [few.path_of(node) for node in few.named(b"a")] == [b"ab/a", b"c/a"]
    many = listing_of({b"%03d" % number: {b"a": File()} for number in range(100)})
    assert [many.path_of(node) for node in many.named(b"a")] == [b"%03d/a" % number for number in range(64)]
