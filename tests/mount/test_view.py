from __future__ import annotations

import stat

import pytest

from narfs.errors import NotFound
from narfs.formats.erofs.directory import packed_bytes
from narfs.formats.listing import Kind
from narfs.formats.nar import max_nodes
from narfs.mount.inodes import ROOT
from narfs.mount.view import View, directory_attributes, shown_root
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import File, Symlink, Tree

TREE: Tree = {
    b"bin": {b"run": File(b"#!", executable=True)},
    b"etc": {},
    b"link": Symlink(b"bin/run"),
    b"text": File(b"x" * 5000),
}


def test_a_node_is_found_by_its_inode_and_back() -> None:
    view = View.of([(path("one"), MemoryAccessor(TREE)), (path("two"), MemoryAccessor({b"a": File()}))])
    for attachment in view.attachments:
        listing = attachment.accessor.listing
        assert listing is not None
        for node in range(len(listing)):
            inode = attachment.attributes(node, listing.shape(node)).inode
            assert view.inodes.at(inode) == (attachment, node)


def test_ranges_follow_the_nar_size_and_touch_each_other() -> None:
    accessor = MemoryAccessor(TREE)
    view = View(closed=False)
    first = view.attach(path("one"), accessor)
    second = view.attach(path("two"), MemoryAccessor(File()))
    assert second.base == first.base + max_nodes(accessor.nar_size)


def test_inodes_of_a_closed_view_do_not_depend_on_the_order_of_its_members() -> None:
    members = [(path(name), MemoryAccessor({name.encode(): File()})) for name in ("c", "a", "b")]
    forward, backward = View.of(members), View.of(reversed(members))
    assert [(each.path, each.base) for each in forward.attachments] == [
        (each.path, each.base) for each in backward.attachments
    ]


def test_a_path_attached_twice_keeps_its_inodes() -> None:
    view = View(closed=False)
    first = view.attach(path("one"), MemoryAccessor(TREE))
    assert view.attach(path("one"), MemoryAccessor(TREE)) is first
    assert view.named(path("one").base_name.encode()) is first
    assert view.named(path("two").base_name.encode()) is None


def test_paths_with_the_same_nar_share_files_but_not_directories() -> None:
    accessor = MemoryAccessor(TREE)
    one, two = View.of([(path("one"), accessor), (path("two"), accessor)]).attachments
    for node in map(MemoryAccessor(TREE)._listing.node, range(5)):
        shared = one.attributes(node.id, node.shape).inode == two.attributes(node.id, node.shape).inode
        assert shared == (node.kind is not Kind.DIRECTORY)


def test_paths_that_disagree_on_the_nar_size_share_nothing() -> None:
    honest, liar = MemoryAccessor(TREE), MemoryAccessor(TREE, verified=False)
    liar.nar_size = 100
    one, two = View.of([(path("one"), liar), (path("two"), honest)]).attachments
    assert one.shared_base == one.base
    assert two.shared_base == two.base


@pytest.mark.parametrize("inode", [0, 1, 2, 15, 10**9])
def test_a_foreign_inode_is_not_found(inode: int) -> None:
    view = View.of([(path("one"), MemoryAccessor(TREE))])
    with pytest.raises(NotFound, match=str(inode)):
        view.inodes.at(inode)


def test_attributes_are_those_nix_gives() -> None:
    (attachment,) = View.of([(path("one"), MemoryAccessor(TREE))]).attachments
    listing = attachment.accessor.listing
    assert listing is not None
    shown = {listing.name(node): attachment.attributes(node, listing.shape(node)) for node in range(len(listing))}
    assert shown[b""][1:] == (stat.S_IFDIR | 0o555, 4, 12 * 6 + 17, 8)
    assert shown[b"run"][1:] == (stat.S_IFREG | 0o555, 1, 2, 8)
    assert shown[b"text"][1:] == (stat.S_IFREG | 0o444, 1, 5000, 16)
    assert shown[b"link"][1:] == (stat.S_IFLNK | 0o777, 1, 7, 8)
    assert shown[b"etc"][1:] == (stat.S_IFDIR | 0o555, 2, 12 * 2 + 3, 8)


@pytest.mark.parametrize(("size", "blocks"), [(27, 8), (4096, 8), (4097, 16)])
def test_a_directory_takes_whole_blocks(size: int, blocks: int) -> None:
    attributes = directory_attributes(ROOT, size, 3)
    assert (attributes.size, attributes.blocks, attributes.nlink) == (size, blocks, 5)


def test_the_size_of_the_root_follows_its_names() -> None:
    view = View(closed=False)
    assert view.root_attributes().size == 27
    for number in range(200):
        view.attach(path(f"a{number}"), MemoryAccessor(File()))
        names = sorted(each.path.base_name.encode() for each in view.attachments)
        assert view.root_attributes().size == packed_bytes(names)


def test_the_root_counts_its_directories_and_what_may_be_one() -> None:
    view = View.of(
        [
            (path("file"), MemoryAccessor(File())),
            (path("tree"), MemoryAccessor({})),
            (path("unknown"), MemoryAccessor(File(), verified=False, peeked=False)),
        ]
    )
    assert view.root_attributes().nlink == 2 + 2


def test_a_peeked_root_has_the_size_of_a_file_and_the_contents_of_nothing() -> None:
    file, tree = MemoryAccessor(File(b"12345"), verified=False), MemoryAccessor(TREE, verified=False)
    for accessor, size in ((file, 5), (tree, 0)):
        shape = shown_root(accessor)
        assert shape is not None
        assert shape[2] == size
    assert shown_root(MemoryAccessor(TREE, verified=False, peeked=False)) is None
