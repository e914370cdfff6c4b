"""A model of what is in a NAR: nested dicts, Files and Symlinks, all names bytes; the truth narfs is compared with.

``dump`` writes NARs in the plainest way there is, independent of ``narfs.formats``, as a reference.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from narfs.formats.listing import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from narfs.formats.listing import NarListing


@dataclass(frozen=True)
class File:
    contents: bytes = b""
    executable: bool = False


@dataclass(frozen=True)
class Symlink:
    target: bytes


Directory = dict[bytes, "Tree"]
Tree = File | Symlink | Directory


def string(value: bytes) -> bytes:
    return len(value).to_bytes(8, "little") + value + bytes(-len(value) % 8)


def strings(*values: bytes) -> bytes:
    return b"".join(map(string, values))


def dump(tree: Tree) -> bytes:
    """Serialize a tree as a NAR."""
    return string(b"nix-archive-1") + _dump_node(tree)


def _dump_node(tree: Tree) -> bytes:
    if isinstance(tree, File):
        flag = (b"executable", b"") if tree.executable else ()
        return strings(b"(", b"type", b"regular", *flag, b"contents", tree.contents, b")")
    if isinstance(tree, Symlink):
        return strings(b"(", b"type", b"symlink", b"target", tree.target, b")")
    parts = [strings(b"(", b"type", b"directory")]
    for name, child in sorted(tree.items()):
        parts += (strings(b"entry", b"(", b"name", name, b"node"), _dump_node(child), string(b")"))
    return b"".join(parts) + string(b")")


def nodes(tree: Tree, path: bytes = b"") -> Iterator[tuple[bytes, Tree]]:
    """Every path with its subtree, in NAR order; the root's path is empty."""
    yield path, tree
    if isinstance(tree, dict):
        for name, child in sorted(tree.items()):
            yield from nodes(child, path + b"/" + name if path else name)


def from_listing(listing: NarListing, nar: bytes, node: int = 0) -> Tree:
    """Read a whole tree by way of its listing."""
    _, kind, executable, nar_offset, size, _, _ = listing.node(node)
    if kind is Kind.REGULAR:
        return File(nar[nar_offset : nar_offset + size], executable)
    if kind is Kind.SYMLINK:
        return Symlink(listing.target(node))
    return {listing.name(child): from_listing(listing, nar, child) for child in listing.children(node)}


def write_to_disk(tree: Tree, path: bytes | Path) -> None:
    """Make the tree at ``path``, which does not exist yet."""
    place = os.fsencode(path)
    if isinstance(tree, File):
        with open(place, "xb") as file:  # noqa: PTH123 - not every name is text
            file.write(tree.contents)
        os.chmod(place, 0o755 if tree.executable else 0o644)  # noqa: PTH101
    elif isinstance(tree, Symlink):
        os.symlink(tree.target, place)  # noqa: PTH211
    else:
        os.mkdir(place)  # noqa: PTH102
        for name, child in tree.items():
            write_to_disk(child, place + b"/" + name)


def read_from_disk(path: bytes | Path) -> Tree:
    """Read what is at ``path``, symlinks not followed."""
    place = os.fsencode(path)
    if os.path.islink(place):  # noqa: PTH114
        return Symlink(os.readlink(place))  # noqa: PTH115
    if os.path.isdir(place):  # noqa: PTH112
        return {name: read_from_disk(place + b"/" + name) for name in os.listdir(place)}  # noqa: PTH208
    with open(place, "rb") as file:  # noqa: PTH123
        return File(file.read(), os.stat(file.fileno()).st_mode & 0o100 != 0)  # noqa: PTH116


ODD_NAMES = [
    b"a",
    b"B",
    b" ",
    b"...",
    b"-rf",
    b"new\nline",
    b"quote\"'\\",
    b"\x7f",
    b"\x80",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "größe".encode(),
    b"~nix~case~hack~1",
    b"eight888",
    b"n" * 255,
    b"\xff" * 255,
]

ODD_TREE: Tree = {
    **{name: File(name, executable=len(name) % 2 == 1) for name in ODD_NAMES},
    b"empty": File(b""),
    b"empty-executable": File(b"", executable=True),
    b"empty-directory": {},
    b"link": Symlink(b"../\xff/" + b"t" * 1000),
    b"longest-link": Symlink(b"l" * 4095),
    b"big": File(bytes(range(256)) * 300),
    b"below": {b"deeper": {b"deepest": File(b"x" * 8)}, b"empty": {}},
}
"""One tree with every oddity that is legal on a Linux file system."""


def names() -> st.SearchStrategy[bytes]:
    plain = st.binary(min_size=1, max_size=10).map(lambda name: name.replace(b"/", b"s").replace(b"\0", b"z"))
    return st.sampled_from(ODD_NAMES) | plain.filter(lambda name: name not in (b".", b".."))


def files() -> st.SearchStrategy[File]:
    contents = st.binary(max_size=40) | st.builds(bytes.__mul__, st.just(b"0123456789abcde"), st.integers(0, 800))
    return st.builds(File, contents, st.booleans())


def symlinks() -> st.SearchStrategy[Symlink]:
    targets = st.binary(min_size=1, max_size=20) | st.just(b"t" * 4095)
    return st.builds(Symlink, targets.map(lambda target: target.replace(b"\0", b"z")))


def trees() -> st.SearchStrategy[Tree]:
    """Whatever a NAR can hold, in small: also roots that are a file or a symlink."""
    leaves = files() | symlinks()
    return st.recursive(leaves, lambda inner: st.dictionaries(names(), inner, max_size=6), max_leaves=25)
