"""A View: a set of store paths with inode numbers. Pure: it neither waits nor knows errno or the kernel.

Inode 1 is the root, 2 is ``.links`` (an empty directory that Nix wants to find when the mount is its store; it is
there when asked for and not listed). Each attached path owns a contiguous range, one number per possible node:

::

    1  2 ... 16 ...................... 16 + max_nodes(NarSize of a) ........................
    root     | a: node 0, node 1, ... | b: node 0, node 1, ...                             |

The range follows from the NarSize, so it can be given before the tree is known. There is no table of inodes: an inode
number is split into its attachment (bisect) and its node id (subtraction). Ranges are dense to stay below 2^32 for as
long as possible, because stat() in a 32-bit program fails above.

Two paths with the same NAR share the inode numbers of their files and symlinks, so that the kernel keeps one copy of
each page; they live in the range of the first one attached. Directories cannot be shared: the kernel moves a directory
that appears twice.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NewType

from narfs.errors import NarfsError, NotFound
from narfs.formats.listing import Kind
from narfs.formats.nar import max_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from narfs.formats.listing import Shape
    from narfs.formats.store_path import StorePath
    from narfs.mount.accessor import Accessor

Inode = NewType("Inode", int)

ROOT = Inode(1)
LINKS = Inode(2)
LINKS_NAME = b".links"
_FIRST_RANGE = 16
"""3 to 15 are kept for whatever else the root may have to show one day."""

TIME_NS = 1_000_000_000
"""All three times of everything: second 1, what Nix gives its own store."""

BLOCK_BYTES = 4096
_DIRECTORY_ENTRY_BYTES = 32

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
            return directory_attributes(Inode(self.base + node), entries=size, subdirectories=subdirectories)
        mode = LINK_MODE if kind is _SYMLINK else EXECUTABLE_MODE if executable else FILE_MODE
        return Attributes(Inode(self.shared_base + node), mode, 1, size, _blocks(size))


class View:
    """Store paths under one root; ``closed``: exactly these and never another, so that absence is for ever."""

    def __init__(self, *, closed: bool, uid: int = 0, gid: int = 0) -> None:
        self.closed = closed
        self.uid = uid
        self.gid = gid
        self._attachments: list[Attachment] = []
        self._bases: list[int] = []
        self._by_name: dict[bytes, Attachment] = {}
        self._shared_bases: dict[tuple[bytes, int], Inode] = {}
        self._next = _FIRST_RANGE

    @classmethod
    def of(cls, members: Iterable[tuple[StorePath, Accessor]], *, uid: int = 0, gid: int = 0) -> View:
        """Make a closed View; the same members always get the same inode numbers."""
        view = cls(closed=True, uid=uid, gid=gid)
        for path, accessor in sorted(members, key=lambda member: member[0]):
            view.attach(path, accessor)
        return view

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
        base = Inode(self._next)
        self._next += max_nodes(accessor.nar_size)
        shared_base = self._shared_bases.setdefault((accessor.nar_hash, accessor.nar_size), base)
        attachment = Attachment(path, accessor, base, shared_base)
        self._attachments.append(attachment)
        self._bases.append(base)
        self._by_name[name] = attachment
        return attachment

    def named(self, name: bytes) -> Attachment | None:
        """Find what is attached under a name of the root."""
        return self._by_name.get(name)

    def at(self, inode: int) -> tuple[Attachment, int]:
        """Split an inode number below the root into attachment and node id."""
        if not _FIRST_RANGE <= inode < self._next:
            raise NotFound(f"inode {inode} belongs to no store path of this view")
        position = bisect_right(self._bases, inode) - 1
        return self._attachments[position], inode - self._bases[position]

    def root_attributes(self) -> Attributes:
        """Describe the root. A path of unknown kind counts as a directory: too many links mislead nobody."""
        directories = sum(
            1
            for attachment in self._attachments
            if (shape := shown_root(attachment.accessor)) is None or shape[0] is _DIRECTORY
        )
        return directory_attributes(ROOT, entries=len(self._attachments), subdirectories=directories)


def shown_root(accessor: Accessor) -> Shape | None:
    """Tell of the root node what is known: verified, from a peek (then a directory looks empty), or nothing."""
    if accessor.listing is not None:
        return accessor.listing.shape(0)
    if (root := accessor.root) is None:
        return None
    return root.kind, root.executable, 0 if root.kind is _DIRECTORY else root.size, 0


def directory_attributes(inode: Inode, *, entries: int, subdirectories: int) -> Attributes:
    """Describe a directory: 32 bytes an entry, two of them for ``.`` and ``..``, in whole blocks of 4096."""
    blocks = _blocks((entries + 2) * _DIRECTORY_ENTRY_BYTES)
    return Attributes(inode, DIRECTORY_MODE, 2 + subdirectories, blocks * 512, blocks)


def _blocks(size: int) -> int:
    """Units of 512 bytes in whole blocks of 4096, as EROFS counts for every kind of node."""
    return (size + BLOCK_BYTES - 1) // BLOCK_BYTES * (BLOCK_BYTES // 512)


FILE_MODE = stat.S_IFREG | 0o444
EXECUTABLE_MODE = stat.S_IFREG | 0o555
DIRECTORY_MODE = stat.S_IFDIR | 0o555
LINK_MODE = stat.S_IFLNK | 0o777
MODES = (FILE_MODE, EXECUTABLE_MODE, DIRECTORY_MODE, LINK_MODE)
