"""What is read of one path of a View.

A file has a number in its path, and a byte for each of its blocks, whose bits are the parts of 16 KiB that were asked
for. So a read of what was read before costs 1 µs, and a first one 2.5 µs. Files that came along whole, most of what
EROFS asks for, are told apart by a byte a node, and noted some at once: 0.3 to 0.7 µs each (benchmark ``reads``).
"""

from __future__ import annotations

import re
from array import array
from contextlib import contextmanager
from itertools import compress
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.formats.listing import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from narfs.formats.listing import NarListing
    from narfs.mount.reads import Reads
    from narfs.mount.view import Attachment

BLOCK_BYTES: Final = 128 * 1024
"""What the kernel asks for at once, at most."""
PART_BYTES: Final = BLOCK_BYTES // 8
_PART_SHIFT: Final = PART_BYTES.bit_length() - 1

_UNKNOWN: Final = 0
"""The number of all files of a path that got none of their own."""

# What there is of a node.
_ALONG, _NUMBERED = 1, 2
_FRESH: Final = re.compile(rb"\0+")
_ALONG_TOO: Final = bytes((_ALONG,))

# What a first read is of; the low bits of what is noted.
BLOCK, WANTED_BLOCK, NODES = 0, 1, 2


class FileReads(NamedTuple):
    """One file; ``parts`` has a byte for each of its blocks, with a bit for each part of 16 KiB that was asked for."""

    node: int
    size: int
    asked_bytes: int
    wanted: bool
    parts: bytes


class PathReads:
    """What is read of one path."""

    __slots__ = (
        "_asked",
        "_nodes",
        "_number",
        "_numbers",
        "_parts",
        "_reads",
        "_seen",
        "_sizes",
        "_starts",
        "_wanted",
        "asked_bytes",
        "attachment",
        "distinct_bytes",
        "later",
        "opened_files",
        "waited_s",
        "waits",
        "wanted_files",
    )

    def __init__(self, reads: Reads, number: int, attachment: Attachment) -> None:
        self.attachment = attachment
        self.asked_bytes = 0
        self.distinct_bytes = 0
        """Of files that are told apart, in parts of 16 KiB or up to the end of a file."""
        self.opened_files = 0
        """Also those that came along."""
        self.wanted_files = 0
        self.waits = 0
        """All of them, also the short ones."""
        self.waited_s = 0.0
        self.later = reads.later
        self._reads = reads
        self._number = number
        self._seen = bytearray()
        """By node what there is of it; empty until something came along."""
        self._numbers: dict[int, int] = {}
        """By node."""
        # By the number of the file; the first is of the unknown.
        self._nodes = array("I", [0])
        self._sizes = array("Q", [0])
        self._asked = array("Q", [0])
        self._starts = array("I", [0])
        """Where its parts begin."""
        self._wanted = bytearray(1)
        self._parts = bytearray()

    def knows(self, node: int) -> bool:
        """Say whether this file was noted before."""
        return node in self._numbers

    def opened(self, node: int, size: int) -> None:
        """Note that a file was opened."""
        if not (number := self._numbers.get(node)):
            number = self._new_file(node, size)
        self._want(number)

    def read(self, node: int, size: int, start: int, length: int, wanted: bool = True) -> None:
        """Note a read of at least one byte within a file; ``wanted`` unless it is known to have come along."""
        file = self._numbers.get(node, _UNKNOWN)
        if self._sizes[file] != size:  # unknown, or another one: of a NAR whose pass broke off
            file = self._new_file(node, size)
        if wanted and not self._wanted[file]:
            self._want(file)
        self.asked_bytes += length
        self._asked[file] += length
        first, last = start >> _PART_SHIFT, start + length - 1 >> _PART_SHIFT
        if (block := first >> 3) == last >> 3:
            fresh = (2 << (last & 7)) - (1 << (first & 7))
            if file and (fresh := fresh & ~self._parts[self._starts[file] + block]):
                self._note(file, block, fresh, wanted=wanted)
            return
        for block in range(first >> 3, (last >> 3) + 1) if file else ():
            low, high = max(first - block * 8, 0), min(last - block * 8, 7)
            if fresh := (2 << high) - (1 << low) & ~self._parts[self._starts[file] + block]:
                self._note(file, block, fresh, wanted=wanted)

    def came_along(self, nodes: range, files: int, length: int) -> None:
        """Note that all files of some nodes, so many with ``length`` bytes, were read with another one."""
        if not self._seen:
            self._seen += bytes(len(self._listing()))
            for node in self._numbers:
                self._seen[node] = _NUMBERED
        self.asked_bytes += length
        before = self._seen[nodes.start : nodes.stop]
        if not any(before):
            self._note_nodes(nodes, files, length)
        elif not all(before) or _NUMBERED in before:
            self._note_some(nodes, before)
        else:
            return
        self._seen[nodes.start : nodes.stop] = before.replace(b"\0", _ALONG_TOO)

    def _note_some(self, nodes: range, before: bytearray) -> None:
        """Note those files of some nodes that were not read before, and those that may have been in part."""
        for fresh in _FRESH.finditer(before):
            part = nodes[fresh.start() : fresh.end()]
            if sizes := [size for _, size in self.contents(part)]:
                self._note_nodes(part, len(sizes), sum(sizes))
        for node in compress(nodes, (seen == _NUMBERED for seen in before)):
            size = self._sizes[self._numbers[node]]
            self.asked_bytes -= size
            self.read(node, size, 0, size, wanted=False)

    def _note_nodes(self, nodes: range, files: int, length: int) -> None:
        self._reads.first(self._number, nodes.start, len(nodes) << 2 | NODES)
        self.opened_files += files
        self.distinct_bytes += length

    @contextmanager
    def waiting(self, node: int | None = None, start: int = 0, length: int = 0) -> Iterator[None]:
        """Note how long the block takes, for these bytes of a file or for the tree."""
        began = self._reads.clock()
        try:
            yield
        finally:
            waited_s = self._reads.clock() - began
            self.waits += 1
            self.waited_s += waited_s
            span = range(start, start + length)
            self._reads.missed(self.attachment, node, span, began=began, waited_s=waited_s)

    def files(self) -> Iterator[FileReads]:
        """Give the files that are told apart: what came along, as if once, then those with a number."""
        along = (node for node, seen in enumerate(self._seen) if seen == _ALONG)
        for node, size in self.contents(along):
            yield FileReads(node, size, size, wanted=False, parts=_all_parts(size))
        for file in range(1, len(self._nodes)):
            start, size = self._starts[file], self._sizes[file]
            parts = bytes(self._parts[start : start + blocks_of(size)])
            yield FileReads(self._nodes[file], size, self._asked[file], bool(self._wanted[file]), parts)

    def node(self, file: int) -> int:
        """Give the node of a file by its number."""
        return self._nodes[file]

    def contents(self, nodes: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Give those of some nodes that are files with contents, and how much they have."""
        listing = self._listing()
        for node in nodes:
            kind, _, size, _ = listing.shape(node)
            if kind is Kind.REGULAR and size:
                yield node, size

    def _listing(self) -> NarListing:
        listing = self.attachment.accessor.listing
        assert listing is not None  # noqa: S101 - the slab was made of it
        return listing

    def _new_file(self, node: int, size: int) -> int:
        """Give a file its number."""
        blocks = -(-size // BLOCK_BYTES)
        if not self._reads.admit(blocks):
            return _UNKNOWN
        self._numbers[node] = number = len(self._nodes)
        self._nodes.append(node)
        self._sizes.append(size)
        self._asked.append(0)
        self._starts.append(len(self._parts))
        self._wanted.append(False)
        if self._seen and self._seen[node]:
            self._parts += _all_parts(size)
        else:
            self._parts += bytes(blocks)
            self.opened_files += 1
        if self._seen:
            self._seen[node] = _NUMBERED
        return number

    def _want(self, file: int) -> None:
        if file and not self._wanted[file]:
            self._wanted[file] = True
            self.wanted_files += 1

    def _note(self, file: int, block: int, fresh: int, *, wanted: bool) -> None:
        """Note the parts of a block that were not read before, as bits."""
        place = self._starts[file] + block
        before = self._parts[place]
        self._parts[place] = before | fresh
        behind = block * BLOCK_BYTES + fresh.bit_length() * PART_BYTES - self._sizes[file]
        self.distinct_bytes += fresh.bit_count() * PART_BYTES - max(behind, 0)
        if not before:
            self._reads.first(self._number, file, block << 2 | (WANTED_BLOCK if wanted else BLOCK))


def blocks_of(size: int) -> int:
    """Count the blocks of a file."""
    return -(-size // BLOCK_BYTES)


def _all_parts(size: int) -> bytes:
    """Give the parts of a file of which everything was read."""
    whole, rest = divmod(size, BLOCK_BYTES)
    return b"\xff" * whole + (bytes(((1 << -(-rest // PART_BYTES)) - 1,)) if rest else b"")
