"""NarListing: the tree inside one NAR, flat in three buffers, no object per file.

Theory of operation. Nodes are numbered in NAR order, which is preorder: the root is 0 and a directory's subtree follows
the directory.

``nodes``     28 bytes each: two u64 fields of its kind, then u32: parent, begin of its name, length of
              the name + kind << 8 + executable << 10
``names``     every name, a symlink's target right behind its name
``children``  u32 ids; a directory's are appended together, sorted by name, when the directory closes

=========  ====================================  ===========================================
kind       first field (u64)                     second field (u64)
=========  ====================================  ===========================================
regular    nar_offset of the contents            size
directory  u32 first child, u32 end of subtree   u32 number of children, u32 subdirectories
symlink    0                                     length of the target
=========  ====================================  ===========================================

The end of its subtree (the first id behind it) is 0 while a directory is open; a closed one has at least its id + 1.
100 k files with names of 20 bytes make 5.2 MB. Integers have the machine's byte order: the buffers can be mapped and
read in place.

A NarListing over foreign buffers is not walked when it is made (100 k records would take 15 ms of a loop that serves
reads). Instead no method trusts a record: one that points outside the buffers is a FormatError where it is used, and
nothing loops on what it says.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.errors import FormatError
from narfs.offsets import NarOffset

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Sequence

RECORD: Final = struct.Struct("=QQIII")
DIRECTORY_FIELDS: Final = struct.Struct("=IIII")
_NAME_FIELDS: Final = struct.Struct("=II")
_NAME_FIELDS_AT: Final = 20
_NAME_LENGTH_AT: Final = 24
_KIND_AT: Final = 25

RECORD_BYTES: Final = RECORD.size
ID_BYTES: Final = 4
MAX_NAMES_BYTES: Final = 1 << 30
"""Bound on ``names``, and so on the number of nodes: each but the root has a name. A record has 32 bits for either."""
_MOST_PLACES: Final = 64
"""In which one name is looked for."""

KIND_SHIFT: Final = 8
EXECUTABLE_BIT: Final = 1 << 10
_LOW: Final = 0xFFFF_FFFF


class Kind(IntEnum):
    """What a node is."""

    REGULAR = 0
    DIRECTORY = 1
    SYMLINK = 2


_KINDS: Final = tuple(Kind)


Shape = tuple[Kind, bool, int, int]
"""Kind, executable, size and subdirectories, as in Node. A plain tuple costs a third of a named one."""


class Node(NamedTuple):
    """One file, directory or symlink.

    ``nar_offset`` is where the contents begin (regular files, else 0). ``size`` counts the bytes of contents or target,
    or the children of a directory. The root is its own ``parent``.
    """

    id: int
    kind: Kind
    executable: bool
    nar_offset: NarOffset
    size: int
    parent: int
    subdirectories: int

    @property
    def shape(self) -> Shape:
        """What stat() needs."""
        return self.kind, self.executable, self.size, self.subdirectories


def corrupt(node: int, expected: str) -> FormatError:
    """Make the error for a record that points outside the buffers."""
    return FormatError("listing", offset=node * RECORD_BYTES, expected=expected, found=f"node {node}")


class NodeTable:
    """What can be asked of nodes whether the NAR has passed or is still passing."""

    _nodes: bytearray | memoryview
    _names: bytearray | memoryview
    _children: array[int] | memoryview

    __slots__ = ("_children", "_names", "_nodes")

    def __len__(self) -> int:
        return len(self._nodes) // RECORD_BYTES

    def node(self, node: int) -> Node:
        """Read one record; the hot path of every lookup: 0.7 µs."""
        try:
            first, second, parent, _, bits = RECORD.unpack_from(self._nodes, node * RECORD_BYTES)
            kind = _KINDS[bits >> KIND_SHIFT & 3]
        except (struct.error, IndexError):
            raise corrupt(node, f"a node below {len(self)} of a known kind") from None
        if kind is Kind.DIRECTORY:
            return Node(node, kind, False, NarOffset(0), second & _LOW, parent, second >> 32)
        return Node(node, kind, bits & EXECUTABLE_BIT != 0, NarOffset(first), second, parent, 0)

    def shape(self, node: int) -> Shape:
        """Tell of a node what stat() needs: 0.4 µs, for each name of each listing."""
        try:
            _, second, _, _, bits = RECORD.unpack_from(self._nodes, node * RECORD_BYTES)
            kind = _KINDS[bits >> KIND_SHIFT & 3]
        except (struct.error, IndexError):
            raise corrupt(node, f"a node below {len(self)} of a known kind") from None
        if kind is Kind.DIRECTORY:
            return kind, False, second & _LOW, second >> 32
        return kind, bits & EXECUTABLE_BIT != 0, second, 0

    def kind(self, node: int) -> Kind:
        """Tell what a node is without reading the rest."""
        try:
            return _KINDS[self._nodes[node * RECORD_BYTES + _KIND_AT] & 3]
        except IndexError:
            raise corrupt(node, "a node of a known kind") from None

    def name(self, node: int) -> bytes:
        """Give its name in its directory; the root's is empty."""
        _, _, _, begin, bits = self._record(node)
        return bytes(self._names[begin : begin + (bits & 0xFF)])

    def target(self, node: int) -> bytes:
        """Give a symlink's target; empty for anything else."""
        _, length, _, begin, bits = self._record(node)
        if self._kind_of(node, bits) is not Kind.SYMLINK:
            return b""
        begin += bits & 0xFF
        return bytes(self._names[begin : begin + length])

    def _record(self, node: int) -> tuple[int, int, int, int, int]:
        try:
            return RECORD.unpack_from(self._nodes, node * RECORD_BYTES)
        except struct.error:
            raise corrupt(node, f"a node below {len(self)}") from None

    def _kind_of(self, node: int, bits: int) -> Kind:
        try:
            return _KINDS[bits >> KIND_SHIFT & 3]
        except IndexError:
            raise corrupt(node, "a node of a known kind") from None

    def _child_range(self, directory: int) -> range:
        """Where its children are in ``children``; empty for what is no (closed) directory."""
        first, second, _, _, bits = self._record(directory)
        if self._kind_of(directory, bits) is not Kind.DIRECTORY:
            return range(0)
        begin = first & _LOW
        end = begin + (second & _LOW)
        if end > len(self._children):
            raise corrupt(directory, "a directory whose children exist")
        return range(begin, end)

    def _search(self, ids: array[int] | memoryview, within: range, name: bytes) -> tuple[int, bool]:
        """Bisect for the first child not less than ``name``: its place in ``ids``, and whether it has that name."""
        low, high = within.start, within.stop
        nodes, names = self._nodes, self._names
        found = False
        while low < high:
            middle = (low + high) // 2
            try:
                begin, bits = _NAME_FIELDS.unpack_from(nodes, ids[middle] * RECORD_BYTES + _NAME_FIELDS_AT)
            except struct.error:
                raise corrupt(ids[middle], f"a node below {len(self)}") from None
            other = bytes(names[begin : begin + (bits & 0xFF)])
            if other < name:
                low = middle + 1
            else:
                high = middle
                found = other == name
        return low, found


class NarListing(NodeTable):
    """The complete tree of one NAR. Equal when the trees and the places of all contents are equal."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # compares by content of large buffers: no key for a dict

    def __init__(self, nodes: memoryview, names: memoryview, children: memoryview) -> None:
        """Look at buffers, without a copy; a FormatError when their lengths cannot belong together."""
        count, rest = divmod(len(nodes), RECORD_BYTES)
        if rest or not count:
            raise FormatError(
                "listing", offset=0, expected="records of 28 bytes, at least one", found=f"{len(nodes)} bytes"
            )
        if len(children) != (count - 1) * ID_BYTES:
            raise FormatError(
                "listing", offset=0, expected=f"{count - 1} ids of children", found=f"{len(children)} bytes"
            )
        self._nodes = nodes
        self._names = names
        self._children = children.cast("I")

    @property
    def buffers(self) -> tuple[memoryview, memoryview, memoryview]:
        """The nodes, names and children this listing is made of, as bytes."""
        return memoryview(self._nodes), memoryview(self._names), memoryview(self._children).cast("B")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NarListing):
            return NotImplemented
        return self.buffers == other.buffers

    def __repr__(self) -> str:
        return f"<NarListing of {len(self)} nodes>"

    def child(self, directory: int, name: bytes) -> int | None:
        """Look a name up; None when absent or when ``directory`` is no directory."""
        place, found = self._search(self._children, self._child_range(directory), name)
        return self._children[place] if found else None

    def children(self, directory: int) -> Sequence[int]:
        """Give the ids of its children, sorted by name, without a copy; empty for what is no directory."""
        within = self._child_range(directory)
        return self._children[within.start : within.stop]

    def count_files(self) -> int:
        """Count the regular files: 1 ms for 100 k nodes."""
        kinds = bytes(memoryview(self._nodes)[_KIND_AT::RECORD_BYTES])
        return sum(kinds.count(bits >> 8) for bits in (0, EXECUTABLE_BIT))

    def path_of(self, node: int) -> bytes:
        """Give the path of a node from the root, as ``find`` takes it."""
        names: list[bytes] = []
        while node:
            names.append(self.name(node))
            parent = self._record(node)[2]
            if parent >= node:
                raise corrupt(node, "a parent before it")
            node = parent
        return b"/".join(reversed(names))

    def name_lengths(self, directory: int) -> list[int]:
        """Give the lengths of its children's names, in their order: 0.05 µs for each."""
        lengths = memoryview(self._nodes)[_NAME_LENGTH_AT::RECORD_BYTES]
        try:
            return [lengths[child] for child in self.children(directory)]
        except IndexError:
            raise corrupt(directory, "a directory whose children exist") from None

    def position(self, directory: int, name: bytes) -> int:
        """Tell how many of its children come before ``name``."""
        within = self._child_range(directory)
        return self._search(self._children, within, name)[0] - within.start

    def find(self, path: bytes) -> int | None:
        """Follow ``a/b/c`` from the root (the empty path); symlinks are not followed."""
        node = 0
        for name in path.split(b"/") if path else ():
            child = self.child(node, name)
            if child is None:
                return None
            node = child
        return node

    def file_at(self, offset: int) -> Node | None:
        """Find the regular file whose contents begin at ``offset`` of the NAR, or before and as near as may be.

        None if there is none, or in a tree in which many nodes that are no files follow on each other. About 20 µs.
        """
        low, high, found = 0, len(self), None
        while low < high:
            middle = (low + high) // 2
            node = next((self.node(id_) for id_ in range(middle, min(middle + 64, high)) if not self.kind(id_)), None)
            if node is None or node.nar_offset > offset:
                high = middle
            else:
                low, found = node.id + 1, node
        return found

    @property
    def names_bytes(self) -> int:
        """How long all names and targets are together."""
        return len(self._names)

    def named(self, name: bytes) -> Iterator[int]:
        """Find the nodes of this name, without a look at each: 1 ms for a megabyte of names.

        If it is in more than 64 places, also in longer names and in targets, some are not found: each costs 10 µs.
        """
        for match in islice(re.finditer(re.escape(name), self._names), _MOST_PLACES):
            node = bisect_right(range(1, len(self)), match.start(), key=self._name_begin)  # the root has no name
            if self.name(node) == name:
                yield node

    def _name_begin(self, node: int) -> int:
        return self._record(node)[3]

    def visits(self) -> Iterator[tuple[int, bool]]:
        """Every node in NAR order as (node, False), and each directory again as (node, True) when its subtree ends."""
        above: list[int] = []
        for node in range(len(self)):
            _, _, parent, _, bits = self._record(node)
            while above and above[-1] != parent:
                yield above.pop(), True
            if node and not above:
                raise corrupt(node, "a node whose parent is open")
            yield node, False
            if self._kind_of(node, bits) is Kind.DIRECTORY:
                above.append(node)
        while above:
            yield above.pop(), True

    def walk(self) -> Iterator[tuple[bytes, int]]:
        """Every path with its node, in NAR order; the root's path is empty."""
        prefixes: list[bytes] = []
        for node, ended in self.visits():
            if ended:
                prefixes.pop()
                continue
            path = prefixes[-1] + self.name(node) if prefixes else b""
            yield path, node
            if self.kind(node) is Kind.DIRECTORY:
                prefixes.append(path + b"/" if node else b"")
