"""The names of directories that are being looked into, as dicts.

A lookup in a listing is a bisect: 4 µs among 100 names, a tenth of what a whole request costs. Programs look up many
names of one directory after another, so the names of the last few directories are kept: 0.3 µs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lru import LRU

if TYPE_CHECKING:
    from narfs.formats.listing import NarListing

_DIRECTORIES = 256
_LARGEST = 256
"""Entries of the largest directory that is kept. Making its dict takes 0.1 ms, in which nobody else is answered; all
directories kept take 8 MB at the very most."""


class Names:
    """Names by the inode number of their directory, which is of one listing for ever."""

    def __init__(self) -> None:
        self._kept: LRU[int, dict[bytes, int]] = LRU(_DIRECTORIES)

    def __len__(self) -> int:
        return len(self._kept)

    def child(self, inode: int, listing: NarListing, directory: int, name: bytes) -> int | None:
        """Look a name up as ``listing.child(directory, name)`` does; ``inode`` is the directory's."""
        names = self._kept.get(inode)
        if names is None:
            children = listing.children(directory)
            if len(children) > _LARGEST:
                return listing.child(directory, name)
            names = self._kept[inode] = {listing.name(child): child for child in children}
        return names.get(name)
