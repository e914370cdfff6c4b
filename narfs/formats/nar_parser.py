"""NarParser, sans-IO: bytes of a NAR in, cut anyhow; one call per entry out. The grammar is in ``nar_grammar``.

Theory of operation. A *step* is all the framing from the end of one node's data to the begin of the next one's:

Rule 1  A step is taken whole or not at all. Bytes of an unfinished one (at most STEP_BYTES) wait in the tail.
Rule 2  Contents are not part of a step: they pass by without a look, in O(1) for each ``feed`` that lies within them.
Rule 3  What can no longer become a legal step is refused at once. A length is checked before what it counts is awaited.
Rule 4  Where the parser is: ``gap`` names what ended last (see ENTRY), or one of

            START      before the magic
            ROOT_DATA  + remainder: behind the contents or target of a root that is no directory
            DONE       behind the NAR, where no byte may be
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

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
    OPENED,
    REGULAR,
    ROOT,
    ROOT_END,
    SYMLINK,
    U64,
    bad,
    bad_name,
    spell,
)

if TYPE_CHECKING:
    from narfs.errors import FormatError

_START: Final = 10
_ROOT_DATA: Final = 11
_DONE: Final = 19

STEP_BYTES: Final = 8192
"""More than the longest step: padding, 80 bytes of words, a name, 112 bytes of words, a symlink target."""


class NarVisitor(Protocol):
    """Who is told about each node, in NAR order. The root's name is empty."""

    def enter(self, name: bytes) -> None:
        """Begin a directory."""

    def leave(self) -> None:
        """End the directory that was entered last and not left yet."""

    def regular(self, name: bytes, executable: bool, nar_offset: int, size: int) -> None:
        """Add a regular file; its contents follow."""

    def symlink(self, name: bytes, target: bytes) -> None:
        """Add a symlink."""


class NarParser:
    """Tells ``visitor`` what a NAR of at most ``nar_size`` bytes holds. After a FormatError it is of no more use."""

    def __init__(self, visitor: NarVisitor, *, nar_size: int = MAX_NAR_SIZE) -> None:
        self._visitor = visitor
        self._nar_size = nar_size
        self._fed = 0  # NarOffset behind all that was fed
        self._at = 0  # NarOffset of the next step; ahead of _fed within contents, behind it by the length of the tail
        self._tail = b""
        self._gap = _START
        self._previous = b""  # name of the last entry in the open directory
        self._above: list[bytes] = []  # and in the directories above it; so its length is the depth of an entry

    @property
    def fed(self) -> int:
        """How many bytes of NAR passed."""
        return self._fed

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the NAR. A memoryview is copied unless it lies within contents."""
        begin = self._fed
        self._fed += len(data)
        if self._fed > self._nar_size:
            raise bad(self._nar_size, "the end of the NAR", f"{self._fed - self._nar_size} more bytes")
        if self._at >= self._fed:
            return
        data = bytes(data)
        if self._tail:
            head = self._tail + data[:STEP_BYTES]
            self._advance(head, begin - len(self._tail))
            if self._at < begin:
                self._tail = head
                return
        self._advance(data, begin)
        self._tail = data[self._at - begin :]

    def skip(self, length: int) -> None:
        """Let ``length`` bytes of contents pass that the caller does not have; not beyond the contents."""
        if self._fed + length > self._at:
            raise ValueError("only contents can be skipped")
        self._fed += length

    def finish(self) -> None:
        """Say that nothing follows; FormatError unless the NAR is complete."""
        if self._gap != _DONE or self._fed < self._at:
            raise bad(self._fed, "the rest of the NAR", "the end of the data")

    def _advance(self, data: bytes, begin: int) -> None:
        """Take all whole steps in ``data``, which lies in the NAR from ``begin``."""
        step = self._step
        after: int | None = self._at - begin
        while after is not None:
            at = after
            after = step(data, begin, at)
        self._at = begin + at

    def _step(self, data: bytes, begin: int, at: int) -> int | None:
        """Take the step at ``at``: give where the next one begins, or None if this one is not whole."""
        gap = self._gap
        if gap >= _START:
            return self._root_step(data, begin, at)
        if data.startswith(ENTRY[gap], at):
            at += len(ENTRY[gap])
            if at + 8 > len(data):
                return None
            length: int = U64.unpack_from(data, at)[0]
            if not 0 < length <= MAX_NAME_BYTES or len(self._above) >= MAX_DEPTH:
                raise _bad_entry(begin + at, length, len(self._above))
            at += 8
            name = data[at : at + length]
            at += length
            if at > len(data):
                return None
            if name <= self._previous or b"/" in name or b"\0" in name or name in DOTS:
                raise bad_name(begin + at - length, name, self._previous)
            return self._node(data, begin, at, name, length & 7)
        if data.startswith(END[gap], at):
            self._visitor.leave()
            self._previous = self._above.pop()
            self._gap = LEFT if self._above else _DONE
            return at + len(END[gap])
        _wait_for(data, begin, at, ENTRY[gap], END[gap])
        return None

    def _root_step(self, data: bytes, begin: int, at: int) -> int | None:
        if self._gap == _START:
            return self._node(data, begin, at, b"", ROOT)
        if self._gap == _DONE:
            if at < len(data):
                raise bad(begin + at, "the end of the NAR", data[at : at + 16])
            return None
        end = ROOT_END[self._gap - _ROOT_DATA]
        if not data.startswith(end, at):
            _wait_for(data, begin, at, end)
            return None
        self._gap = _DONE
        return at + len(end)

    def _node(self, data: bytes, begin: int, at: int, name: bytes, lead: int) -> int | None:
        """Take the node called ``name`` up to its contents or its first entry."""
        if data.startswith(REGULAR[lead], at):
            at += len(REGULAR[lead])
            executable = False
        elif data.startswith(EXECUTABLE[lead], at):
            at += len(EXECUTABLE[lead])
            executable = True
        elif data.startswith(DIRECTORY[lead], at):
            self._visitor.enter(name)
            self._above.append(name)
            self._gap, self._previous = OPENED, b""
            return at + len(DIRECTORY[lead])
        elif data.startswith(SYMLINK[lead], at):
            return self._symlink(data, begin, at + len(SYMLINK[lead]), name)
        else:
            _wait_for(data, begin, at, DIRECTORY[lead], REGULAR[lead], EXECUTABLE[lead], SYMLINK[lead])
            return None
        if at + 8 > len(data):
            return None
        length: int = U64.unpack_from(data, at)[0]
        at += 8
        if begin + at + length > self._nar_size:
            raise bad(begin + at - 8, f"contents that end before byte {self._nar_size}", f"{length} bytes")
        self._visitor.regular(name, executable, begin + at, length)
        self._gap, self._previous = (length & 7) + (0 if self._above else _ROOT_DATA), name
        return at + length

    def _symlink(self, data: bytes, begin: int, at: int, name: bytes) -> int | None:
        if at + 8 > len(data):
            return None
        length: int = U64.unpack_from(data, at)[0]
        if not 0 < length <= MAX_TARGET_BYTES:
            raise bad(begin + at, f"a target of 1 to {MAX_TARGET_BYTES} bytes", f"{length} bytes")
        at += 8
        if at + length > len(data):
            return None
        target = data[at : at + length]
        if b"\0" in target:
            raise bad(begin + at, "a target without NUL", target)
        self._visitor.symlink(name, target)
        self._gap, self._previous = (length & 7) + (0 if self._above else _ROOT_DATA), name
        return at + length


def _wait_for(data: bytes, begin: int, at: int, *tokens: bytes) -> None:
    """Return if what is there may still become one of ``tokens``, refuse it otherwise."""
    matched = 0
    for token in tokens:
        there = data[at : at + len(token)]
        if token.startswith(there):
            return
        matched = max(matched, next(i for i, (a, b) in enumerate(zip(token, there, strict=False)) if a != b))
    expected = " or ".join(dict.fromkeys(spell(token) for token in tokens))
    raise bad(begin + at + matched, expected, data[at + matched : at + matched + 16])


def _bad_entry(offset: int, length: int, depth: int) -> FormatError:
    if depth >= MAX_DEPTH:
        return bad(offset, f"at most {MAX_DEPTH} levels", "one more")
    return bad(offset, f"a name of 1 to {MAX_NAME_BYTES} bytes", f"{length} bytes")
