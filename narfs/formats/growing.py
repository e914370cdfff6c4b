"""A NarListing while its NAR is passing: built in one process, mirrored in another.

Theory of operation. The ListingBuilder appends; a record changes only once, when its directory closes. So what a mirror
needs from time to time (``take_delta``) is: what was appended to the three buffers, the records of directories that
closed after they were taken, and what was appended to the children of the directories that are open (at most 64).

Names within a directory are sorted. So in an open directory a name is absent for sure as soon as a greater one has
passed, and PENDING until then.

A delta, integers in the machine's byte order: the lengths of its parts (``_DELTA``), nodes, names, children, ids of the
late records, the late records, and for each open directory its id, a count, and that many ids. Both ends are narfs
itself, so nothing in it is checked.
"""

from __future__ import annotations

import struct
from array import array
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from narfs.formats.listing import (
    DIRECTORY_FIELDS,
    EXECUTABLE_BIT,
    ID_BYTES,
    KIND_SHIFT,
    RECORD,
    RECORD_BYTES,
    Kind,
    NarListing,
    NodeTable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DELTA: Final = struct.Struct("=QQQII")
_GROWN: Final = struct.Struct("=II")
_DIRECTORY: Final = Kind.DIRECTORY << KIND_SHIFT
_SYMLINK: Final = Kind.SYMLINK << KIND_SHIFT


class _Sent(NamedTuple):
    """What the last delta went up to."""

    nodes: int
    names: int
    children: int
    open_children: Mapping[int, int]


class ListingBuilder(NodeTable):
    """Collect nodes in NAR order. Trusts its caller, the NAR parser, that names are valid and sorted."""

    __slots__ = ("_above", "_late", "_parent", "_sent", "_siblings", "_subdirectories")
    _nodes: bytearray
    _names: bytearray
    _children: array[int]

    def __init__(self) -> None:
        self._nodes = bytearray()
        self._names = bytearray()
        self._children = array("I")
        self._parent = 0
        self._siblings = array("I")  # of the open directory; before the root is entered: the root alone
        self._subdirectories = 0
        self._above: list[tuple[int, array[int], int]] = []
        self._late: list[int] = []
        self._sent = _Sent(0, 0, 0, {})

    @property
    def names_bytes(self) -> int:
        """Length of all names and targets so far; the caller keeps it below MAX_NAMES_BYTES."""
        return len(self._names)

    def regular(self, name: bytes, executable: bool, nar_offset: int, size: int) -> None:
        """Add a regular file to the open directory."""
        nodes, names = self._nodes, self._names
        self._siblings.append(len(nodes) // RECORD_BYTES)
        bits = len(name) | EXECUTABLE_BIT if executable else len(name)
        nodes += RECORD.pack(nar_offset, size, self._parent, len(names), bits)
        names += name

    def symlink(self, name: bytes, target: bytes) -> None:
        """Add a symlink to the open directory."""
        nodes, names = self._nodes, self._names
        self._siblings.append(len(nodes) // RECORD_BYTES)
        nodes += RECORD.pack(0, len(target), self._parent, len(names), len(name) | _SYMLINK)
        names += name
        names += target

    def enter(self, name: bytes) -> None:
        """Add a directory to the open directory, and open it."""
        nodes, names = self._nodes, self._names
        directory = len(nodes) // RECORD_BYTES
        self._siblings.append(directory)
        nodes += RECORD.pack(0, 0, self._parent, len(names), len(name) | _DIRECTORY)
        names += name
        self._above.append((self._parent, self._siblings, self._subdirectories + 1))
        self._parent, self._siblings, self._subdirectories = directory, array("I"), 0

    def leave(self) -> None:
        """Close the open directory."""
        directory, children = self._parent, self._siblings
        fields = (len(self._children), len(self), len(children), self._subdirectories)
        DIRECTORY_FIELDS.pack_into(self._nodes, directory * RECORD_BYTES, *fields)
        self._children.extend(children)
        self._parent, self._siblings, self._subdirectories = self._above.pop()
        if directory < self._sent.nodes:
            self._late.append(directory)

    def finish(self) -> NarListing:
        """Give the listing, over the builder's own buffers: nothing can be added afterwards."""
        return NarListing(
            memoryview(self._nodes).toreadonly(),
            memoryview(self._names).toreadonly(),
            memoryview(self._children).toreadonly().cast("B"),
        )

    def take_delta(self) -> bytes:
        """Give what was added since the last call, for a GrowingListing; work and memory follow what was added."""
        sent, late = self._sent, self._late
        opened = self._open_directories()
        nodes = self._nodes[sent.nodes * RECORD_BYTES :]
        names = self._names[sent.names :]
        children = self._children[sent.children :]
        parts: list[bytes | bytearray] = [
            _DELTA.pack(len(nodes), len(names), len(children), len(late), len(opened)),
            nodes,
            names,
            children.tobytes(),
            array("I", late).tobytes(),
            *(self._nodes[directory * RECORD_BYTES : (directory + 1) * RECORD_BYTES] for directory in late),
        ]
        for directory, ids in opened.items():
            grown = ids[sent.open_children.get(directory, 0) :]
            parts += (_GROWN.pack(directory, len(grown)), grown.tobytes())
        open_children = {directory: len(ids) for directory, ids in opened.items()}
        self._sent = _Sent(len(self), len(self._names), len(self._children), open_children)
        late.clear()
        return b"".join(parts)

    def _open_directories(self) -> dict[int, array[int]]:
        if not self._above:
            return {}
        opened = {directory: siblings for directory, siblings, _ in self._above[1:]}
        opened[self._parent] = self._siblings
        return opened


class Pending(Enum):
    """The type of PENDING."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING
"""Not known yet: the directory is still passing by."""


class GrowingListing(NodeTable):
    """The mirror of a ListingBuilder in another process. Fed with ``apply``; empty before the first delta.

    ``node`` of a directory that is open says 0 children and 0 subdirectories.
    """

    __slots__ = ("_open",)
    _nodes: bytearray
    _names: bytearray
    _children: array[int]

    def __init__(self) -> None:
        self._nodes = bytearray()
        self._names = bytearray()
        self._children = array("I")
        self._open: dict[int, array[int]] = {}

    def apply(self, delta: bytes) -> None:
        """Take what ``ListingBuilder.take_delta`` gave; every delta once, in order."""
        nodes, names, children, late, grown = _DELTA.unpack_from(delta)
        view = memoryview(delta)
        at = _DELTA.size
        self._nodes += view[at : at + nodes]
        at += nodes
        self._names += view[at : at + names]
        at += names
        self._children.frombytes(view[at : at + children * ID_BYTES])
        at += children * ID_BYTES
        ids = view[at : at + late * ID_BYTES].cast("I")
        at += late * ID_BYTES
        for directory in ids:
            self._nodes[directory * RECORD_BYTES : (directory + 1) * RECORD_BYTES] = view[at : at + RECORD_BYTES]
            del self._open[directory]
            at += RECORD_BYTES
        for _ in range(grown):
            directory, count = _GROWN.unpack_from(delta, at)
            at += _GROWN.size
            self._open.setdefault(directory, array("I")).frombytes(view[at : at + count * ID_BYTES])
            at += count * ID_BYTES

    def child(self, directory: int, name: bytes) -> int | Literal[Pending.PENDING] | None:
        """Look a name up: its id, None when it is absent for sure, PENDING when it may still come."""
        ids = self._open.get(directory)
        if ids is None:
            place, found = self._search(self._children, self._child_range(directory), name)
            return self._children[place] if found else None
        place, found = self._search(ids, range(len(ids)), name)
        if place == len(ids):
            return PENDING
        return ids[place] if found else None

    def children(self, directory: int) -> Sequence[int] | Literal[Pending.PENDING]:
        """Give the ids of its children, or PENDING while the directory is open."""
        if directory in self._open:
            return PENDING
        within = self._child_range(directory)
        return self._children[within.start : within.stop]
