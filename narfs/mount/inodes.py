"""Inode numbers of one FUSE session: which attachment of which View owns which.

::

    1  2 ... 16 ...................... 16 + max_nodes(NarSize of a) ........................
    root     | a: node 0, node 1, ... | b: node 0, node 1, ...                             |

The range of an attachment follows from its NarSize, so it can be given before the tree is known. There is no table of
inodes: a number is split into its attachment (bisect) and its node id (subtraction). Ranges are dense to stay below
2^32 for as long as possible, because stat() in a 32-bit program fails above; but a number is never given twice, because
the kernel may still ask for one that it remembers.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NewType

from narfs.errors import NotFound
from narfs.formats.nar import max_nodes

if TYPE_CHECKING:
    from narfs.mount.view import Attachment, View

Inode = NewType("Inode", int)

ROOT = Inode(1)
LINKS = Inode(2)
_FIRST_RANGE = 16
"""3 to 15 are kept for whatever else the root of a session may have to show one day."""


class Inodes:
    """The ranges that are given, in order; ``nar_bytes`` are those of all NARs in them."""

    def __init__(self) -> None:
        self.nar_bytes = 0
        self._next = _FIRST_RANGE
        self._bases: list[int] = []
        self._ends: list[int] = []
        self._owners: list[Attachment] = []

    def __len__(self) -> int:
        return len(self._owners)

    def single(self) -> Inode:
        """Give a number that is of no attachment."""
        self._next += 1
        return Inode(self._next - 1)

    def next_base(self) -> Inode:
        """Tell where the next range will begin."""
        return Inode(self._next)

    def own(self, attachment: Attachment) -> None:
        """Give ``attachment``, whose base is ``next_base``, its range."""
        self._bases.append(attachment.base)
        self._owners.append(attachment)
        self._ends.append(attachment.base + max_nodes(attachment.accessor.nar_size))
        self._next = self._ends[-1]
        self.nar_bytes += attachment.accessor.nar_size

    def at(self, inode: int) -> tuple[Attachment, int]:
        """Split a number into attachment and node id; NotFound if it is of none, or of one whose View is gone."""
        position = bisect_right(self._bases, inode) - 1
        if position >= 0 and inode < self._ends[position]:
            return self._owners[position], inode - self._bases[position]
        raise NotFound(f"inode {inode} belongs to no store path of this mount")

    def disown(self, view: View) -> None:
        """Take the ranges of a View that goes away."""
        kept = [place for place, owner in enumerate(self._owners) if owner.view is not view]
        self._bases = [self._bases[place] for place in kept]
        self._ends = [self._ends[place] for place in kept]
        self._owners = [self._owners[place] for place in kept]
        self.nar_bytes = sum(owner.accessor.nar_size for owner in self._owners)
