"""The libraries of a program: found in the View as ld.so would find them, and brought before it asks for them.

A program waits twice or more for each of its libraries, one after the other: for the headers, for the data behind the
code, for the code. All of that follows from a kilobyte of each, so they are brought all at once, and theirs with them::

    a program is waited for → both ends → needs → interpreter, libraries: both ends → needs → ...
                          └── the rest, if it is not too large           └── the rest

Where a library is looked for: in the RUNPATH, or the RPATH of this file and those that led to it; beside the
interpreter, where a libc is; then anywhere in the View, for some are told where to look by their environment.
"""

from __future__ import annotations

import posixpath
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from narfs.engine.ahead.bringing import Want, bring
from narfs.formats.elf import reading
from narfs.offsets import FileOffset, NarSpan, in_nar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from narfs.engine.ahead.bringing import Allowance
    from narfs.engine.ahead.sight import Place, Sight
    from narfs.formats.elf import FileSpan, Needs

    Start = Callable[..., None]
    """Starts a task whose failure is nobody's."""

WHOLE_BYTES: Final = 8 * 1024 * 1024
"""Files up to here are brought whole, for page faults ask for most of them (84 to 91 % by B1). Of larger ones: what
ld.so walks through."""

_END_BYTES: Final = 64 * 1024
"""At the beginning are the headers and the symbols, at the end, behind the code, the data and the dynamic section; they
come first, with whatever shares their chunks."""
_END_PART: Final = 4
"""Of what comes whole anyway, so much is the end: programs with much data (python3.11: 1.3 MB of 6.7) have their
dynamic section before it, and ld.so waits for that."""

_MOST_LIBRARIES: Final = 1024
"""Of one View. The largest programs have 300."""
_MOST_DIRECTORIES: Final = 256
"""In which one library is looked for: 4 ms."""


class _From(NamedTuple):
    """How a library was come to: the search paths that count for it, and the directory of the interpreter."""

    rpath: tuple[tuple[bytes, Place], ...] = ()
    """With where ``$ORIGIN`` is."""
    libc: Place | None = None


class Libraries:
    """Of the programs of one View, each brought once."""

    def __init__(self, sight: Sight, allowance: Allowance, start: Start) -> None:
        self._sight = sight
        self._allowance = allowance
        self._start = start
        self._met: set[tuple[bytes, int]] = set()

    def bring_soon(self, file: Place) -> None:
        """Bring a program or a library with all it needs, if that was not done before."""
        if self._meet(file):
            self._start(self._load, file, _From())

    def _meet(self, file: Place) -> bool:
        key = file.accessor.key, file.node
        if key in self._met or len(self._met) >= _MOST_LIBRARIES or not file.described.size:
            return False
        self._met.add(key)
        return True

    async def _load(self, file: Place, came: _From) -> None:
        whole = file.span
        small = whole.length <= WHOLE_BYTES
        head = NarSpan(whole.start, in_nar(whole.start, FileOffset(min(_END_BYTES, whole.length))))
        end_bytes = max(_END_BYTES, whole.length // _END_PART if small else 0)
        tail = NarSpan(in_nar(whole.start, FileOffset(max(0, whole.length - end_bytes))), whole.end)
        if small:  # at once too: between its ends lies what the program waits for next
            self._start(partial(self._bring, at_once=True), file, [head, tail, whole])
        if not await self._bring(file, [head, tail], at_once=True):
            return
        needs = await self._read(file)
        await self._follow(file, needs, came)
        if not small:
            await self._bring(file, [_in_file(file, span) for span in needs.mapped])

    async def _follow(self, file: Place, needs: Needs, came: _From) -> None:
        folder = file.parent
        if needs.interpreter is not None and (loader := await self._sight.file(needs.interpreter)) is not None:
            came = came._replace(libc=loader.parent)
            self.bring_soon(loader)
        here = tuple((directory, folder) for directory in needs.runpath or needs.rpath)
        search = (here if needs.runpath else (*here, *came.rpath))[:_MOST_DIRECTORIES]
        passed_on = came if needs.runpath else came._replace(rpath=search)
        for name in needs.libraries:
            await trio.lowlevel.checkpoint()  # what leads through known trees is none
            library = await self._find(name, folder, search, came.libc)
            if library is not None and self._meet(library):
                self._start(self._load, library, passed_on)

    async def _find(
        self, name: bytes, folder: Place, search: Sequence[tuple[bytes, Place]], libc: Place | None
    ) -> Place | None:
        if b"/" in name:
            return await self._sight.file(*_expanded(name, folder))
        for directory, origin in search:
            path, start = _expanded(directory, origin)
            if (found := await self._sight.file(posixpath.join(path, name), start)) is not None:
                return found
        if libc is not None and (found := await self._sight.file(name, libc)) is not None:
            return found
        return await self._sight.named(name)

    async def _read(self, file: Place) -> Needs:
        """Look into a file for what it needs, as far as that was brought or is still allowed."""
        node, parser = file.described, reading(file.described.size)
        spans = next(parser)
        while True:
            await self._bring(file, [_in_file(file, span) for span in spans if span.length], at_once=True)
            look = file.accessor.look
            try:
                spans = parser.send([await look(in_nar(node.nar_offset, at), length) for at, length in spans])
            except StopIteration as end:
                needs: Needs = end.value
                return needs

    async def _bring(self, file: Place, spans: Sequence[NarSpan], *, at_once: bool = False) -> bool:
        brought = await bring((Want(file.accessor, span) for span in spans), self._allowance, at_once=at_once)
        return brought.stopped_by is None and not brought.failed


def _expanded(path: bytes, origin: Place) -> tuple[bytes, Place]:
    """Replace ``$ORIGIN``: the path then counts from that directory."""
    for token in (b"$ORIGIN", b"${ORIGIN}"):
        if path.startswith(token):
            return path.removeprefix(token).lstrip(b"/"), origin
    return path, origin


def _in_file(file: Place, span: FileSpan) -> NarSpan:
    start = in_nar(file.described.nar_offset, span.start)
    return NarSpan(start, in_nar(start, FileOffset(span.length)))
