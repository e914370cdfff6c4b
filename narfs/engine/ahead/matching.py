"""Finding what a profile names among the paths of a View: pure.

Names are looked for as they are, then without versions; of several paths with one name the same one in the order of
their hashes. What is not there is passed over. So a profile never leads out of the View, whoever wrote it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from narfs.errors import FormatError
from narfs.formats.listing import Kind
from narfs.formats.package_name import without_version
from narfs.formats.profile import BLOCK_BYTES
from narfs.offsets import FileOffset, NarSpan, in_nar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from narfs.engine.accessor import NarAccessor
    from narfs.formats.profile import Place
    from narfs.formats.store_path import StorePath
    from narfs.offsets import NarOffset


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
    """A regular file of the View, and the blocks that a profile names of it: first and last, in order and apart."""

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

    def name(self, first: int, last: int) -> list[NarSpan]:
        """Note that blocks are named, and give where those lie that were not named before; none behind the file."""
        last = min(last, (self.size - 1) // BLOCK_BYTES)
        if first > last:
            return []
        low = bisect_left(self.named, first, key=lambda span: span[1])
        high = bisect_right(self.named, last, key=lambda span: span[0])
        known = self.named[low:high]
        ends = [first, *(end + 1 for _, end in known)]
        starts = [*(start for start, _ in known), last + 1]
        if known:
            first, last = min(first, known[0][0]), max(last, known[-1][1])
        self.named[low:high] = [(first, last)]
        return [self._span(fresh, end) for fresh, end in zip(ends, starts, strict=True) if fresh < end]

    def bytes_of(self, block: int) -> int:
        """Give the bytes of a block if it is named, else 0."""
        place = bisect_left(self.named, block, key=lambda span: span[1])
        if place == len(self.named) or self.named[place][0] > block:
            return 0
        return min(self.size - block * BLOCK_BYTES, BLOCK_BYTES)

    def _span(self, first: int, end: int) -> NarSpan:
        start, stop = FileOffset(first * BLOCK_BYTES), FileOffset(min(end * BLOCK_BYTES, self.size))
        return NarSpan(in_nar(self.contents, start), in_nar(self.contents, stop))
