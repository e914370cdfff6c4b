"""Finding what a profile names among the paths of a View: pure.

Names are looked for as they are, then without versions; of several paths with one name the same one in the order of
their hashes. What is not there is passed over. So a profile never leads out of the View, whoever wrote it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from narfs.errors import FormatError
from narfs.formats.listing import Kind
from narfs.formats.package_name import without_version
from narfs.formats.profile import BLOCK_BYTES
from narfs.offsets import FileOffset, NarSpan, in_nar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from narfs.engine.accessor import NarAccessor
    from narfs.formats.profile import Place, Read
    from narfs.formats.store_path import StorePath
    from narfs.offsets import NarOffset

_BEHIND_ALL: Final = 1 << 64


class Named:
    """The paths of a View by name."""

    def __init__(self, members: Iterable[tuple[StorePath, NarAccessor]]) -> None:
        self._exact: dict[str, list[NarAccessor]] = {}
        self._alike: dict[str, list[NarAccessor]] = {}
        for path, accessor in sorted(members, key=lambda member: member[0]):
            self._exact.setdefault(path.name, []).append(accessor)
            self._alike.setdefault(without_version(path.name), []).append(accessor)

    def accessor(self, place: Place) -> NarAccessor | None:
        """Give the NAR that a place is in; None if the View has no such path."""
        found = self._exact.get(place.package) or self._alike.get(without_version(place.package))
        return None if found is None else found[min(place.nth, len(found) - 1)]


@dataclass(frozen=True, slots=True, eq=False)
class FoundFile:
    """A regular file of the View, and the blocks that a profile names of it, as first and last."""

    accessor: NarAccessor
    node: int
    contents: NarOffset
    size: int
    named: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def find(cls, accessor: NarAccessor, path: bytes) -> FoundFile | None:
        """Look a file up; None if it is not there, or its tree is not known or unsound."""
        if (listing := accessor.listing) is None:
            return None
        try:
            node = listing.find(path)
            found = None if node is None else listing.node(node)
        except FormatError:
            return None
        if found is None or found.kind is not Kind.REGULAR:
            return None
        return cls(accessor, found.id, found.nar_offset, found.size)

    def name(self, read: Read) -> NarSpan | None:
        """Note what a read names, and give where it lies; None if that is behind the end of the file."""
        if (start := read.first * BLOCK_BYTES) >= self.size:
            return None
        insort(self.named, (read.first, read.last))
        end = min((read.last + 1) * BLOCK_BYTES, self.size)
        return NarSpan(in_nar(self.contents, FileOffset(start)), in_nar(self.contents, FileOffset(end)))

    def bytes_of(self, block: int) -> int:
        """Give the bytes of a block if it is named, else 0. Of reads that overlap the later one counts."""
        place = bisect_right(self.named, (block, _BEHIND_ALL)) - 1
        if place < 0 or self.named[place][1] < block:
            return 0
        return min(self.size - block * BLOCK_BYTES, BLOCK_BYTES)
