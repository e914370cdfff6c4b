"""What the kernel is told of one name: pyfuse3's EntryAttributes, with owner, times and validity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfuse3 import EntryAttributes

from narfs.mount.inodes import ROOT
from narfs.mount.view import MODES, TIME_NS, Attributes

if TYPE_CHECKING:
    from narfs.formats.listing import NarListing
    from narfs.mount.view import Attachment

FOREVER_S = 1e9
"""Validity of what never changes: 31 years. The kernel counts in jiffies and takes no infinity."""

UNVERIFIED_S = 1.0
"""Validity of what only a peek told, or what grows while a NAR passes."""


class Entries:
    """Makes them for one session; ``owner`` is uid and gid of every file in it."""

    def __init__(self, owner: tuple[int, int]) -> None:
        self._uid, self._gid = owner
        self._owned = owner != (0, 0)
        self.absent = self.negative(FOREVER_S)
        """A name that never will be: EntryAttributes are read at once and may be shared."""
        self._by_mode = {mode: self.entry(Attributes(ROOT, mode, 1, 0, 0)) for mode in MODES}

    def verified(self, attachment: Attachment, listing: NarListing, node: int) -> EntryAttributes:
        """Describe a verified node in the one entry kept for its mode; good until the next await, which is long enough.

        A new entry with all its fields costs 1.5 µs, for each name of each listing; these four 0.2.
        """
        inode, mode, nlink, size, blocks = attachment.attributes(node, listing.shape(node))
        entry = self._by_mode[mode]
        entry.st_ino, entry.st_nlink, entry.st_size, entry.st_blocks = inode, nlink, size, blocks
        return entry

    def entry(self, attributes: Attributes, valid_s: float = FOREVER_S) -> EntryAttributes:
        """Describe an inode."""
        entry = EntryAttributes()
        inode, entry.st_mode, entry.st_nlink, entry.st_size, entry.st_blocks = attributes
        entry.st_ino = inode
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = TIME_NS
        entry.entry_timeout = entry.attr_timeout = valid_s
        if self._owned:
            entry.st_uid, entry.st_gid = self._uid, self._gid
        return entry

    @staticmethod
    def negative(valid_s: float) -> EntryAttributes:
        """Say that a name is not there."""
        entry = EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = valid_s
        return entry

    @staticmethod
    def unlooked(inode: int, mode: int) -> EntryAttributes:
        """Name an inode in a listing without telling more of it; the kernel looks it up when asked for."""
        entry = EntryAttributes()
        entry.st_ino, entry.st_mode = inode, mode
        entry.entry_timeout = entry.attr_timeout = 0
        return entry


def validity(attachment: Attachment) -> float:
    """Say for how long the kernel may believe what it is told of a node now."""
    return FOREVER_S if attachment.accessor.listing is not None else UNVERIFIED_S
