"""Mentions: what a file that is read names is brought before somebody asks for it.

Programs read one file after the other, and each says what comes next: ELF files name their libraries (``libraries``),
scripts their interpreter and, as Nix writes wrappers, whole paths; Python modules others (``modules``). Whoever reads
gets his bytes first. Some follow already while the file is only waited for, a round trip earlier.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVarTuple

import trio

from narfs.engine.ahead.libraries import Libraries
from narfs.engine.ahead.modules import SOURCE_BYTES, Modules
from narfs.engine.ahead.quietly import quietly
from narfs.formats import elf, script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from narfs.engine.ahead.bringing import Allowance
    from narfs.engine.ahead.sight import Place, Sight
    from narfs.engine.means import Counters
    from narfs.formats.store_path import StorePath

Ts = TypeVarTuple("Ts")

_log = logging.getLogger(__name__)

_WAITING_MAX: Final = 64
"""Files that are being looked at, their beginnings 128 KiB each at most. What else comes meanwhile is passed over until
it is read again. Each has a task of its own: an index may be long in coming, and others do not wait for it."""

_FILES_AFTER_A_FETCH: Final = 64
"""Files that are followed after each fetch. A program that finds everything here goes on without us."""

_KNOWN_MAX: Final = 1 << 16
"""Files that are told apart, at 100 bytes each; a View whose programs read more was followed far enough."""

_WRAPPER_BYTES: Final = 64 * 1024
"""A program up to here that names others by their full paths mostly runs them."""


class _Seen(NamedTuple):
    path: StorePath
    node: int
    beginning: bytes | None
    """None: it is waited for."""


class Mentions:
    """In one View. ``counters`` tell whether something is fetched at all: what is here needs no help."""

    def __init__(self, sight: Sight, allowance: Allowance, counters: Counters) -> None:
        self._sight = sight
        self._allowance = allowance
        self._counters = counters
        self._fetches = counters.range_fetches
        self._left = 0
        """Files that are followed without another fetch."""
        self._known: set[tuple[StorePath, int]] = set()
        self._awaited: set[tuple[StorePath, int]] = set()
        """Files that were waited for once, on the lake or on the disk."""
        self._waiting = 0
        self._parsing = trio.Lock()
        """Held for what takes time without waiting, so that nobody else waits for many of them in a row."""
        self._ask, self._asked = trio.open_memory_channel[_Seen](math.inf)

    def awaits(self, path: StorePath, node: int) -> None:
        """Note that somebody waits for the beginning of a file. Not a checkpoint: 1 µs."""
        if (path, node) in self._awaited or len(self._awaited) >= _KNOWN_MAX:
            return
        if self._tell(_Seen(path, node, None)):
            self._awaited.add((path, node))

    def saw(self, path: StorePath, node: int, beginning: bytes) -> None:
        """Note the beginning of a file that somebody reads. Not a checkpoint: 1 µs, then less."""
        if self._fetches != self._counters.range_fetches:
            self._fetches = self._counters.range_fetches
            self._left = _FILES_AFTER_A_FETCH
        if not self._left or (path, node) in self._known or len(self._known) >= _KNOWN_MAX:
            return
        if self._tell(_Seen(path, node, beginning)):
            self._left -= 1
            self._known.add((path, node))

    def _tell(self, seen: _Seen) -> bool:
        if self._waiting >= _WAITING_MAX:
            _log.debug("%s: node %d: too much is read at once to be followed", seen.path.base_name, seen.node)
            return False
        self._waiting += 1
        self._ask.send_nowait(seen)
        return True

    async def run(self) -> None:
        """Follow what is seen; ends by cancellation."""
        async with trio.open_nursery() as nursery:

            def start(work: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> None:
                nursery.start_soon(quietly, partial(work, *args))

            libraries = Libraries(self._sight, self._allowance, start)
            modules = Modules(libraries, self._allowance, start)
            async for seen in self._asked:
                start(self._look, seen, libraries, modules)

    async def _look(self, seen: _Seen, libraries: Libraries, modules: Modules) -> None:
        try:
            if self._allowance.left != 0:
                await self._look_into(seen, libraries, modules)
        finally:
            self._waiting -= 1

    async def _look_into(self, seen: _Seen, libraries: Libraries, modules: Modules) -> None:
        member = await self._sight.member(seen.path.base_name.encode())
        if member is None:
            return
        file = member._replace(node=seen.node)
        if seen.beginning is not None:
            await self._follow(file, seen.beginning, libraries, modules)
        elif await file.accessor.lacks(file.span):
            _expect(file, libraries, modules)

    async def _follow(self, file: Place, beginning: bytes, libraries: Libraries, modules: Modules) -> None:
        if beginning.startswith(elf.MAGIC):
            libraries.bring_soon(file)
        words = script.interpreter(beginning)
        if words or (file.described.executable and file.described.size <= _WRAPPER_BYTES):
            for path in dict.fromkeys((*words[:1], *script.store_files(beginning))):
                if (found := await self._sight.file(path)) is not None and found.described.executable:
                    libraries.bring_soon(found)
        if _is_python(file, words) and file.described.size <= SOURCE_BYTES:
            async with self._parsing:
                await modules.follow(file, beginning)


def _expect(file: Place, libraries: Libraries, modules: Modules) -> None:
    """Bring what a file that is still waited for will mostly lead to, by its name and mode."""
    name = file.listing.name(file.node)
    if file.described.executable or b".so" in name:
        libraries.bring_soon(file)
    if name.endswith((b".py", b".pyc")):
        modules.expect(file)


def _is_python(file: Place, words: tuple[bytes, ...]) -> bool:
    return any(b"python" in word for word in words) or file.listing.name(file.node).endswith(b".py")
