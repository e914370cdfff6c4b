"""A View: a set of store paths with inode numbers. Pure: it neither waits nor knows errno or the kernel.

Besides its paths the root has ``.links``, an empty directory that Nix wants to find when the mount is its store; it is
there when asked for and not listed.

Two paths with the same NAR share the inode numbers of their files and symlinks, so that the kernel keeps one copy of
each page; they live in the range of the first one attached. Directories cannot be shared: the kernel moves a directory
that appears twice. Two Views share no number: what is read through one is counted there, and nowhere else.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from narfs.formats.erofs.directory import directory_bytes, packed_bytes
from narfs.formats.listing import Kind
from narfs.mount.inodes import LINKS, ROOT, Inode, Inodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from narfs.errors import NarfsError
    from narfs.formats.listing import Shape
    from narfs.formats.store_path import StorePath
    from narfs.mount.accessor import Accessor

LINKS_NAME = b".links"

TIME_NS = 1_000_000_000
"""All three times of everything: second 1, what Nix gives its own store."""

BLOCK_BYTES = 4096
EMPTY_DIRECTORY_BYTES = packed_bytes([])

# Looked up once: through the class each costs 50 ns, three times a lookup.
_DIRECTORY = Kind.DIRECTORY
_SYMLINK = Kind.SYMLINK


class Attributes(NamedTuple):
    """What stat() tells of one inode, without owner and times, which are the same everywhere."""

    inode: Inode
    mode: int
    nlink: int
    size: int
    blocks: int


@dataclass(slots=True, eq=False)
class Attachment:
    """One store path in a View. ``trouble`` says why its root node cannot be shown, while that is so."""

    view: View
    path: StorePath
    accessor: Accessor
    base: Inode
    shared_base: Inode
    trouble: NarfsError | None = None

    def inode(self, node: int, kind: Kind) -> Inode:
        """Give the inode number of a node."""
        return Inode((self.base if kind is _DIRECTORY else self.shared_base) + node)

    def attributes(self, node: int, shape: Shape) -> Attributes:
        """Describe a node as stat() does."""
        kind, executable, size, subdirectories = shape
        if kind is _DIRECTORY:
            listing = self.accessor.listing
            size = EMPTY_DIRECTORY_BYTES if listing is None else directory_bytes(listing, node)
            return directory_attributes(Inode(self.base + node), size, subdirectories)
        mode = LINK_MODE if kind is _SYMLINK else EXECUTABLE_MODE if executable else FILE_MODE
        return Attributes(Inode(self.shared_base + node), mode, 1, size, _blocks(size))


class View:
    """Store paths under one root; ``closed``: exactly these and never another, so that absence is for ever."""

    def __init__(self, *, closed: bool, inodes: Inodes | None = None, root: Inode = ROOT, links: Inode = LINKS) -> None:
        """Make an empty one; without ``inodes`` it has a session to itself."""
        self.closed = closed
        self.root = root
        self.links = links
        self.inodes = Inodes() if inodes is None else inodes
        self._attachments: list[Attachment] = []
        self._by_name: dict[bytes, Attachment] = {}
        self._shared_bases: dict[tuple[bytes, int], Inode] = {}
        self._root_bytes: int | None = EMPTY_DIRECTORY_BYTES

    @classmethod
    def of(cls, members: Iterable[tuple[StorePath, Accessor]], *, inodes: Inodes | None = None) -> View:
        """Make a closed View: a session's only one, whose members always get the same inode numbers, or one of many."""
        view = cls(closed=True) if inodes is None else cls.beside_others(inodes, closed=True)
        for path, accessor in sorted(members, key=lambda member: member[0]):
            view.attach(path, accessor)
        return view

    @classmethod
    def beside_others(cls, inodes: Inodes, *, closed: bool) -> View:
        """Make an empty one for a session that shows several."""
        return cls(closed=closed, inodes=inodes, root=inodes.single(), links=inodes.single())

    @property
    def attachments(self) -> Sequence[Attachment]:
        """Everything attached, in the order of attaching: a position in it stays what it was."""
        return self._attachments

    def attach(self, path: StorePath, accessor: Accessor) -> Attachment:
        """Give a path its inodes; a path that has them keeps them."""
        name = path.base_name.encode("ascii")
        known = self._by_name.get(name)
        if known is not None:
            return known
        base = self.inodes.next_base()
        shared_base = self._shared_bases.setdefault((accessor.key, accessor.nar_size), base)
        attachment = Attachment(self, path, accessor, base, shared_base)
        self.inodes.own(attachment)
        self._attachments.append(attachment)
        self._by_name[name] = attachment
        self._root_bytes = None
        return attachment

    def named(self, name: bytes) -> Attachment | None:
        """Find what is attached under a name of the root."""
        return self._by_name.get(name)

    def root_attributes(self) -> Attributes:
        """Describe the root. A path of unknown kind counts as a directory: too many links mislead nobody."""
        directories = sum(
            1
            for attachment in self._attachments
            if (shape := shown_root(attachment.accessor)) is None or shape[0] is _DIRECTORY
        )
        if self._root_bytes is None:
            self._root_bytes = packed_bytes(sorted(self._by_name))
        return directory_attributes(self.root, self._root_bytes, directories)


def shown_root(accessor: Accessor) -> Shape | None:
    """Tell of the root node what is known: verified, from a peek (then a directory looks empty), or nothing."""
    if accessor.listing is not None:
        return accessor.listing.shape(0)
    if (root := accessor.root) is None:
        return None
    return root.kind, root.executable, 0 if root.kind is _DIRECTORY else root.size, 0


def directory_attributes(inode: Inode, size: int = EMPTY_DIRECTORY_BYTES, subdirectories: int = 0) -> Attributes:
    """Describe a directory; its size is that of EROFS (``packed_bytes``), which no frontend can choose."""
    return Attributes(inode, DIRECTORY_MODE, 2 + subdirectories, size, _blocks(size))


def _blocks(size: int) -> int:
    """Units of 512 bytes in whole blocks of 4096, as EROFS counts for every kind of node."""
    return (size + BLOCK_BYTES - 1) // BLOCK_BYTES * (BLOCK_BYTES // 512)


FILE_MODE = stat.S_IFREG | 0o444
EXECUTABLE_MODE = stat.S_IFREG | 0o555
DIRECTORY_MODE = stat.S_IFDIR | 0o555
LINK_MODE = stat.S_IFLNK | 0o777
SLAB_MODE = stat.S_IFREG | 0o400
MODES = (FILE_MODE, EXECUTABLE_MODE, DIRECTORY_MODE, LINK_MODE)
