"""Audit: reads everything that is kept, compares it with its digests and drops what is not what it should be.

It goes in steps, while others read, write and evict; a step knows of the one before its Cursor and nothing else::

    at the beginning    the catalog, every page; what lies about in the directory
    then                signatures that are kept as checked
    folder by folder    what has no name of ours goes
      NAR by NAR        index, map and sizes as a reader looks at them; every chunk that is claimed, also one that was
                        compared before; the part for images; how much is recorded
    at the end          what is recorded and not there

Files of a NAR are judged while nobody changes them (``Evictor.turn``), and dropped in the order of every eviction.
What a kill left is dropped too and told, though nobody would ever have read it.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, TypeVarTuple

import trio

from narfs.cache.disk import OURS, remove_tree
from narfs.cache.nar_file import load, remove
from narfs.cache.places import SUFFIXES, is_folder, is_name
from narfs.errors import CacheUnusable, FormatError
from narfs.formats import base32

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from narfs.cache.cached_nar import CachedNar
    from narfs.cache.chunk_cache import ChunkCache
    from narfs.cache.eviction import Evictor
    from narfs.cache.means import Means
    from narfs.cache.places import Places

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Compared in one go: 3 ms of sha256 in memory, 40 ms of a disk that reads 100 MB/s."""

_DONE: Final = -1
_FOREIGN: Final = "nothing that narfs made"


class Cursor(NamedTuple):
    """How far an audit is: all NARs up to ``name``, and of that all chunks before ``chunk`` (negative: all).

    Without a name ``chunk`` is the last row of signatures instead.
    """

    name: str = ""
    chunk: int = _DONE


class Flaw(NamedTuple):
    """What was wrong with one file, or one NAR; it was dropped, if that is not said otherwise."""

    file: str
    why: str


@dataclass(slots=True)
class Findings:
    """Of one step; ``left`` is what narfs does not know, in the directory itself: it may be somebody's."""

    nars: int = 0
    chunks: int = 0
    compared_bytes: int = 0
    dropped: list[Flaw] = field(default_factory=list)
    left: list[Flaw] = field(default_factory=list)


class Audit:
    """Of one cache. Made by ``ChunkCache.audit``; without ``compare`` only sizes are looked at and recorded."""

    def __init__(self, cache: ChunkCache, means: Means, evictor: Evictor, *, compare: bool) -> None:
        self._cache = cache
        self._means = means
        self._evictor = evictor
        self._compare = compare

    async def step(self, cursor: Cursor | None, seconds: float) -> tuple[Findings, Cursor | None]:
        """Go on from ``cursor`` (None: begin) for about ``seconds``; give where the next step begins, None at the end.

        CacheUnusable if the disk fails in a way that is not the fault of one NAR.
        """
        findings, until = Findings(), trio.current_time() + seconds
        if cursor is None:
            cursor = Cursor(chunk=0)
            await self._begin(findings)
        while not cursor.name and cursor.chunk != _DONE:
            cursor = await self._signatures(cursor.chunk, findings)
            if trio.current_time() >= until:
                return findings, cursor
        for folder in await self._blocking(_folders, self._means.places.nars, cursor.name[:2]):
            names, strays = await self._blocking(_names, folder)
            for stray in strays:
                await self._drop_stray(stray, findings)
            for name in names:
                if name < cursor.name or (name == cursor.name and cursor.chunk == _DONE):
                    continue
                begin = cursor.chunk if name == cursor.name else 0
                chunk = await self._one(name, begin, until, findings)
                if trio.current_time() >= until:
                    return findings, Cursor(name, chunk)
        await self._end()
        return findings, None

    async def _begin(self, findings: Findings) -> None:
        places = self._means.places
        if (wrong := await self._cache.catalog.check()) is not None:
            findings.dropped.append(Flaw(places.catalog.name, wrong))
        try:
            damaged = await self._blocking(lambda: list(self._means.pins.drop_damaged()))
        except OSError as error:
            raise CacheUnusable(f"cache {places.directory}: {error}") from error
        for path, why in damaged:
            findings.dropped.append(Flaw(str(path.relative_to(places.directory)), why))
        around, among = await self._blocking(_strays, places)
        findings.left += [Flaw(path.name, _FOREIGN) for path in around]
        for path in among:
            await self._drop_stray(path, findings)

    async def _signatures(self, after: int, findings: Findings) -> Cursor:
        """Check signatures; the narinfos stay, and whoever wants one checks it for himself."""
        checked = await self._cache.catalog.check_signatures(after)
        for _, hash_part in checked.wrong:
            why = f"{hash_part}.narinfo is not signed by the key that is said to have signed it"
            findings.dropped.append(Flaw(self._means.places.catalog.name, why))
        return Cursor(chunk=_DONE if checked.last is None else checked.last)

    async def _one(self, name: str, begin: int, until: float, findings: Findings) -> int:
        """Look at one NAR from chunk ``begin`` on; give the chunk where time ran out, or _DONE."""
        key = base32.decode(name, what="a name in the cache")
        was_live = key in self._means.live
        if (nar := await self._open(key, name, findings)) is None:
            return _DONE
        try:
            return await self._chunks(name, nar, begin, until, findings) if self._compare else _DONE
        finally:
            if not was_live:
                nar.close()
                self._means.opened.pop(key, None)

    async def _open(self, key: bytes, name: str, findings: Findings) -> CachedNar | None:
        """Give a NAR as its readers have it; remove it if there is nothing that they could have."""
        means = self._means
        async with self._evictor.turn:
            try:
                loaded = await self._blocking(load, means.places, key, None)
            except (FormatError, OSError) as error:
                if isinstance(error, OSError) and error.errno in OURS:
                    raise CacheUnusable(f"cache {means.places.directory}: {error}") from error
                loaded, why = None, str(error)
            else:
                why = "has no index, so nobody would read it"
            if loaded is not None:
                if strange := await self._blocking(loaded.file.clear_strange):
                    findings.dropped.append(Flaw(f"{name}.map", f"{strange} claims of a kind that nobody makes"))
                return self._cache.take_in(loaded)
            if not await self._blocking(_any_there, means.places, key):
                return None  # evicted since its name was read
            if (live := means.live.get(key)) is not None:
                live.retire()
            await self._blocking(remove, means.places, key)
            means.counters.files_changed += 1
            means.counters.lost += 1
            means.catalog.forget_nar(key)
        findings.dropped.append(Flaw(name, why))
        return None

    async def _chunks(self, name: str, nar: CachedNar, begin: int, until: float, findings: Findings) -> int:
        grid, bad, trouble = nar.index.grid, 0, ""
        window = max(1, _WINDOW_BYTES // grid.chunk_bytes)
        for start in range(begin, grid.count, window):
            if start > begin and trio.current_time() >= until:
                break
            chunks = range(start, min(start + window, grid.count))
            try:
                found = await nar.audit(chunks)
            except OSError as error:
                bad, trouble = bad + len(chunks), f"; {error}"
                continue
            if found is not None:
                findings.chunks += len(found.good) + len(found.bad)
                findings.compared_bytes += sum(grid.span(chunk).length for chunk in (*found.good, *found.bad))
                bad += len(found.bad)
        else:
            start = _DONE
        if bad:
            findings.dropped.append(Flaw(name, f"{bad} chunks differ from their digests{trouble}"))
        if start == _DONE:
            findings.nars += 1
            await self._part(nar.key, name, findings)
            if bad and nar.is_empty:  # then the index may be what is wrong
                nar.drop()
        return start

    async def _part(self, key: bytes, name: str, findings: Findings) -> None:
        if (wrong := await self._cache.parts.check(key)) is not None:
            findings.dropped.append(Flaw(f"{name}.part", wrong))

    async def _drop_stray(self, path: Path, findings: Findings) -> None:
        await self._blocking(remove_tree, path)
        findings.dropped.append(Flaw(str(path.relative_to(self._means.places.directory)), _FOREIGN))

    async def _end(self) -> None:
        """Forget what is recorded and not there: no fault, a kill between two writes does it."""
        means = self._means
        await means.catalog.flush()
        async with self._evictor.turn:
            recorded = await means.catalog.keys()
            for gone in await self._blocking(lambda: [key for key in recorded if not means.places.index(key).exists()]):
                means.catalog.forget_nar(gone)
        await means.catalog.flush()

    async def _blocking(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._means.threads)


def _folders(nars: Path, first: str) -> list[Path]:
    return sorted(path for path in nars.iterdir() if path.name >= first)


def _names(folder: Path) -> tuple[list[str], list[Path]]:
    """Give the names of the NARs in a folder, in order, and what is none of their files."""
    names, strays = set(), []
    for path in folder.iterdir():
        name, dot, suffix = path.name.partition(".")
        ours = dot + suffix in SUFFIXES and is_name(name) and name.startswith(folder.name)
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # evicted since the folder was read
            continue
        if ours and stat.S_ISREG(mode):
            names.add(name)
        else:
            strays.append(path)
    return sorted(names), strays


def _any_there(places: Places, key: bytes) -> bool:
    return any(path.exists() for path in places.of(key))


def _strays(places: Places) -> tuple[list[Path], list[Path]]:
    """Give what narfs did not put there: into the directory, and among the folders of NARs."""
    around = [path for path in places.directory.iterdir() if path.name not in places.known]
    among = [path for path in places.nars.iterdir() if not (is_folder(path.name) and path.is_dir())]
    return sorted(around), sorted(among)
