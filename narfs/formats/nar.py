"""NARs, sans-IO: NarReader (events), NarIndexer (the listing, fast), peek_root (the first kilobytes), NarWriter."""

from __future__ import annotations

from typing import Final, NamedTuple

from narfs.formats.growing import ListingBuilder
from narfs.formats.listing import MAX_NAMES_BYTES, Kind, NarListing
from narfs.formats.nar_grammar import (
    DIRECTORY,
    DOTS,
    END,
    ENTRY,
    EXECUTABLE,
    LEFT,
    MAX_DEPTH,
    MAX_NAME_BYTES,
    MAX_NAR_SIZE,
    MAX_TARGET_BYTES,
    NODE_MIN_BYTES,
    OPENED,
    REGULAR,
    ROOT,
    ROOT_END,
    ROOT_MIN_BYTES,
    SYMLINK,
    U64,
    bad,
    bad_name,
)
from narfs.formats.nar_parser import STEP_BYTES, NarParser
from narfs.offsets import NarOffset

PEEK_BYTES: Final = STEP_BYTES
"""``peek_root`` never needs more: the root node is the first step."""


def max_nodes(nar_size: int) -> int:
    """Bound the number of nodes in a NAR of this size, so that inodes can be set aside before its tree is known."""
    return 1 + max(0, nar_size - ROOT_MIN_BYTES) // NODE_MIN_BYTES


class Enter(NamedTuple):
    """A directory begins; the root's name is empty."""

    name: bytes


class Leave(NamedTuple):
    """The open directory ends."""


class Regular(NamedTuple):
    """A regular file begins."""

    name: bytes
    executable: bool
    nar_offset: NarOffset
    size: int


class Symlink(NamedTuple):
    """A symlink."""

    name: bytes
    target: bytes


class Contents(NamedTuple):
    """A piece of the contents of the last Regular; no copy, so it lives no longer than what was fed."""

    data: memoryview


Event = Enter | Leave | Regular | Symlink | Contents


class NarReader:
    """Bytes in, events out: one for each entry, and with ``contents`` one for each fed piece of its contents."""

    def __init__(self, *, contents: bool = False, nar_size: int = MAX_NAR_SIZE) -> None:
        self._parser = NarParser(self, nar_size=nar_size)
        self._wants_contents = contents
        self._events: list[Event] = []
        self._data: bytes | memoryview = b""
        self._begin = 0
        self._contents_end = 0

    def feed(self, data: bytes | memoryview) -> list[Event]:
        """Take the next bytes, give what they complete."""
        self._data, self._begin = data, self._parser.fed
        self._pass_contents(self._begin)
        self._parser.feed(data)
        self._data = b""
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Say that nothing follows; FormatError unless the NAR is complete."""
        self._parser.finish()

    def enter(self, name: bytes) -> None:
        """For the parser."""
        self._events.append(Enter(name))

    def leave(self) -> None:
        """For the parser."""
        self._events.append(Leave())

    def regular(self, name: bytes, executable: bool, nar_offset: int, size: int) -> None:
        """For the parser."""
        self._events.append(Regular(name, executable, NarOffset(nar_offset), size))
        self._contents_end = nar_offset + size
        self._pass_contents(nar_offset)

    def symlink(self, name: bytes, target: bytes) -> None:
        """For the parser."""
        self._events.append(Symlink(name, target))

    def _pass_contents(self, start: int) -> None:
        """Give what the fed piece holds of the contents from ``start`` on; never before the piece, by rule 1."""
        if self._wants_contents:
            piece = memoryview(self._data)[start - self._begin : max(0, self._contents_end - self._begin)]
            if piece:
                self._events.append(Contents(piece))


class Root(NamedTuple):
    """What a NAR says of its root node. ``size`` as in Node; of a directory that is still passing: 0."""

    kind: Kind
    executable: bool
    size: int


class NarIndexer:
    """The fast road from the bytes of a NAR to its NarListing.

    Feed pieces of far less than 1 GiB: ``max_names_bytes`` is looked at after each.
    """

    def __init__(self, nar_size: int, *, max_names_bytes: int = MAX_NAMES_BYTES) -> None:
        self.builder = ListingBuilder()
        self._parser = NarParser(self.builder, nar_size=nar_size)
        self._nar_size = nar_size
        self._max_names_bytes = max_names_bytes

    @property
    def root(self) -> Root | None:
        """The root node, as soon as its first bytes have passed."""
        if not len(self.builder):
            return None
        node = self.builder.node(0)
        return Root(node.kind, node.executable, node.size)

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes; a FormatError as soon as they can be no NAR of ``nar_size`` bytes."""
        self._parser.feed(data)
        if self.builder.names_bytes > self._max_names_bytes:
            raise bad(self._parser.fed, f"at most {self._max_names_bytes} bytes of names", "more")

    def skip(self, length: int) -> None:
        """Let ``length`` bytes of contents pass that the caller does not have."""
        self._parser.skip(length)

    def finish(self) -> NarListing:
        """Give the listing; FormatError unless the NAR is complete and of ``nar_size`` bytes."""
        self._parser.finish()
        if self._parser.fed != self._nar_size:
            raise bad(self._parser.fed, f"a NAR of {self._nar_size} bytes", "its end")
        return self.builder.finish()


def peek_root(prefix: bytes) -> Root | None:
    """Tell what the root node is from the first bytes of a NAR (at most PEEK_BYTES count), or None if it takes more."""
    builder = ListingBuilder()
    NarParser(builder).feed(prefix[:PEEK_BYTES])
    if not len(builder):
        return None
    node = builder.node(0)
    return Root(node.kind, node.executable, 0 if node.kind is Kind.DIRECTORY else node.size)


_NOTHING: Final = -1


class NarWriter:
    """Gives the bytes around contents; the caller puts exactly the announced contents behind what ``regular`` gave.

    Takes the verbs of a NarVisitor in NAR order (names strictly increasing by bytes, the root's empty), keeps one name
    per open directory, and refuses with a FormatError what no NAR can hold. For a tree ``{a: file of 5 bytes}``::

        enter(b"") + regular(b"a", False, 5) + five bytes + leave() + finish()
    """

    def __init__(self) -> None:
        self.nar_size = NarOffset(0)
        """Length of the NAR so far, contents included: after ``regular``, where the contents end."""
        self._gap = _NOTHING
        self._previous = b""
        self._above: list[bytes] = []

    def enter(self, name: bytes) -> bytes:
        """Begin a directory."""
        framing = self._entry(name, DIRECTORY)
        self._above.append(name)
        self._gap, self._previous = OPENED, b""
        return self._count(framing)

    def leave(self) -> bytes:
        """End the open directory."""
        framing = END[self._gap]
        self._previous = self._above.pop()
        self._gap = LEFT
        return self._count(framing)

    def regular(self, name: bytes, executable: bool, size: int) -> bytes:
        """Begin a regular file: everything up to its contents. They begin at ``nar_size - size``."""
        framing = self._entry(name, EXECUTABLE if executable else REGULAR)
        if not 0 <= size <= MAX_NAR_SIZE - self.nar_size - len(framing):
            raise bad(self.nar_size, f"contents within {MAX_NAR_SIZE} bytes of NAR", f"{size} bytes")
        self._gap, self._previous = size % 8, name
        framing = self._count(framing + U64.pack(size))
        self.nar_size = NarOffset(self.nar_size + size)
        return framing

    def symlink(self, name: bytes, target: bytes) -> bytes:
        """Add a symlink."""
        if not 0 < len(target) <= MAX_TARGET_BYTES:
            raise bad(self.nar_size, f"a target of 1 to {MAX_TARGET_BYTES} bytes", f"{len(target)} bytes")
        if b"\0" in target:
            raise bad(self.nar_size, "a target without NUL", target)
        framing = self._entry(name, SYMLINK) + U64.pack(len(target)) + target
        self._gap, self._previous = len(target) % 8, name
        return self._count(framing)

    def finish(self) -> bytes:
        """End the NAR, all directories left."""
        return self._count(ROOT_END[self._gap] if self._gap < OPENED else b"")

    def _entry(self, name: bytes, kind: tuple[bytes, ...]) -> bytes:
        """From the end of what came before to the words of a node."""
        if self._gap == _NOTHING:
            return kind[ROOT]
        if len(self._above) >= MAX_DEPTH:
            raise bad(self.nar_size, f"at most {MAX_DEPTH} levels", "one more")
        if not 0 < len(name) <= MAX_NAME_BYTES:
            raise bad(self.nar_size, f"a name of 1 to {MAX_NAME_BYTES} bytes", f"{len(name)} bytes")
        if name <= self._previous or b"/" in name or b"\0" in name or name in DOTS:
            raise bad_name(self.nar_size, name, self._previous)
        return ENTRY[self._gap] + U64.pack(len(name)) + name + kind[len(name) % 8]

    def _count(self, framing: bytes) -> bytes:
        self.nar_size = NarOffset(self.nar_size + len(framing))
        return framing
