"""Catalog: sizes, recency, narinfos, roots and lots. In memory at once, on disk in batches.

What ``flush`` has not written yet is lost by a kill: some recency, narinfos that will be asked for again, and sizes of
chunks that are put right when their NAR is next opened. Nothing that a read relies on.

``nar_hash`` is in catalog and budget the key of a NAR (``key``), which is its NarHash in the domain of most.

A catalog that cannot be read is moved aside and begun anew, once, with a warning. The NARs are still there, found by
their names and recorded again when they are next opened; the budget does not know of the others until then.
"""

from __future__ import annotations

import logging
import sqlite3
from itertools import count
from typing import TYPE_CHECKING, Final, TypeVar

import trio
from lru import LRU

from narfs.cache.budget import INDEX, Unit, choose
from narfs.cache.catalog_file import CatalogFile, Changes, StoredNarInfo, StoredRoot, move_aside
from narfs.errors import CacheUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from pathlib import Path

    from narfs.cache.catalog_file import Checked, Contents
    from narfs.cache.health import Health
    from narfs.formats.erofs.lot import Lot
    from narfs.formats.signature import PublicKey

K = TypeVar("K")
T = TypeVar("T")

_log = logging.getLogger(__name__)

_HOT_NARINFOS: Final = 8192
_HOT_ROOTS: Final = 8192
_UNWRITTEN_MAX: Final = 16_384
"""Narinfos, and roots, that wait for the disk: 32 MB. More come where it fails, and are asked for again some time."""
_SIGNATURES_AT_ONCE: Final = 500
"""Checked in one go: 60 ms."""


class Catalog:
    """Of one cache directory. What is not async is for the event loop and does not wait for the disk to write."""

    def __init__(self, file: CatalogFile, health: Health) -> None:
        self._file = file
        self._health = health
        self._writing = trio.Lock()
        self._changes = Changes()
        self._unwritten: Changes | None = None
        """A batch that was under way when the disk failed; it comes before ``_changes``."""
        self._recorded_bytes = file.total_bytes()
        self._new_bytes = 0
        self._clock = count(file.last_use() + 1)
        self._damage: sqlite3.DatabaseError | None = None
        self.knows_all = file.knows_all()
        """Whether the size of everything on disk was recorded since the file was made. Say so by ``note_knows_all``."""
        self._narinfos: LRU[tuple[str, str], StoredNarInfo] = LRU(_HOT_NARINFOS)
        self._roots: LRU[bytes, StoredRoot] = LRU(_HOT_ROOTS)

    @classmethod
    def open(cls, path: Path, health: Health) -> Catalog:
        """Open or make the file at ``path``; blocks. CacheUnusable only if not even a new one can be made."""
        try:
            try:
                return cls(CatalogFile(path), health)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                return cls(_begin_anew(path, error), health)
        except (OSError, sqlite3.Error) as error:
            raise CacheUnusable(f"cache catalog {path}: {error}") from error

    @property
    def used_bytes(self) -> int:
        """What the NARs in the cache take. What is gone still counts until the next flush."""
        return self._recorded_bytes + self._new_bytes

    # Units.

    def touch(self, nar_hash: bytes, segment: int) -> None:
        """Note a use: 0.3 µs."""
        self._changes.used[nar_hash, segment] = next(self._clock)

    def grow(self, nar_hash: bytes, segment: int, size: int) -> None:
        """Note that ``size`` bytes came to a unit (negative: left it), which is a use too."""
        unit = (nar_hash, segment)
        self._changes.grown[unit] = self._changes.grown.get(unit, 0) + size
        self._changes.used[unit] = next(self._clock)
        self._new_bytes += size

    def forget_unit(self, nar_hash: bytes, segment: int) -> None:
        """Note that a unit is gone."""
        self._forget_news(nar_hash, segment)
        self._changes.gone_units.add((nar_hash, segment))

    def forget_nar(self, nar_hash: bytes) -> None:
        """Note that all units of a NAR are gone."""
        for unit in [unit for unit in self._changes.used if unit[0] == nar_hash]:
            self._forget_news(*unit)
        self._changes.gone_nars.add(nar_hash)

    def size_of(self, nar_hash: bytes) -> int:
        """Give what is recorded for one NAR; 0 if that cannot be read. 20 µs."""
        try:
            return self._file.size_of(nar_hash)
        except sqlite3.Error as error:
            self._note(error)
            return 0

    async def choose(self, wanted: int, pinned: Container[tuple[bytes, int]]) -> list[Unit]:
        """Pick what to evict for ``wanted`` bytes, as of the last flush; CacheUnusable if the catalog fails."""
        return await self._asked(lambda file: choose(file.oldest_first(), wanted, pinned))

    async def keys(self) -> set[bytes]:
        """Give the keys of all NARs that are recorded, as of the last flush; CacheUnusable."""
        return await self._asked(CatalogFile.keys)

    async def contents(self) -> Contents:
        """Count what is recorded, as of the last flush; CacheUnusable."""
        return await self._asked(CatalogFile.contents)

    async def check(self) -> str | None:
        """Read all of the file, begin anew what is damaged; say what was wrong. CacheUnusable if the disk fails."""
        wrong = None
        async with self._writing:
            try:
                if await trio.to_thread.run_sync(self._file.check):
                    wrong = "the total differed from what it is the total of"
                    self._recorded_bytes = await trio.to_thread.run_sync(self._file.total_bytes)
            except sqlite3.DatabaseError as error:
                self._note(error)
                if self._damage is None:
                    raise self._health.failed(f"catalog: {error}") from error
                wrong = str(error)
        await self.flush()
        return wrong

    async def check_signatures(self, after: int) -> Checked:
        """Check some of the signatures that are kept as checked, from the row ``after`` on; CacheUnusable."""
        checked = await self._asked(lambda file: file.drop_unsigned(after, _SIGNATURES_AT_ONCE))
        for name in checked.wrong:
            self._narinfos.pop(name, None)
        return checked

    async def note_knows_all(self) -> None:
        """Note that everything was recorded; CacheUnusable."""
        await self._asked(CatalogFile.note_knows_all)
        self.knows_all = True

    async def _asked(self, question: Callable[[CatalogFile], T]) -> T:
        async with self._writing:
            try:
                return await trio.to_thread.run_sync(question, self._file)
            except sqlite3.Error as error:
                self._note(error)
                raise self._health.failed(f"catalog: {error}") from error

    # Narinfos and roots.

    def narinfo(self, lake: str, hash_part: str) -> StoredNarInfo | None:
        """Give the narinfo that ``lake`` (its identity) had for a store path, as it was kept: 0.2 µs hot, else 20."""
        key = (lake, hash_part)
        if (stored := self._narinfos.get(key)) is None:
            try:
                stored = self._file.narinfo(lake, hash_part)
            except sqlite3.Error as error:
                self._note(error)
            if stored is not None:
                self._narinfos[key] = stored
        return stored

    def keep_narinfo(
        self, lake: str, hash_part: str, text: bytes, time: float, voucher: PublicKey | None = None
    ) -> None:
        """Keep a narinfo; ``time`` is when the lake was asked, in seconds since the epoch, ``voucher`` who signed."""
        self._narinfos[lake, hash_part] = stored = StoredNarInfo(text, time, voucher)
        _add(self._changes.narinfos, (lake, hash_part), stored)

    def root(self, nar_hash: bytes) -> StoredRoot | None:
        """Give what is known of the root node of a NAR."""
        if (stored := self._roots.get(nar_hash)) is None:
            try:
                stored = self._file.root(nar_hash)
            except sqlite3.Error as error:
                self._note(error)
            if stored is not None:
                self._roots[nar_hash] = stored
        return stored

    def keep_root(self, nar_hash: bytes, kind: int, *, executable: bool, size: int) -> None:
        """Keep what the first kilobytes of a NAR said of its root node."""
        self._roots[nar_hash] = stored = StoredRoot(int(kind), executable, size)
        _add(self._changes.roots, nar_hash, stored)

    # Lots of EROFS images.

    def lot(self, key: bytes) -> Lot | None:
        """Give the lot that was given under ``key``, as of the last flush. 10 µs."""
        try:
            return self._file.lot(key)
        except sqlite3.Error as error:
            self._note(error)
            return None

    def lots_end(self) -> tuple[int, int]:
        """Give the first blocks of images and of slabs that are in no lot, as of the last flush."""
        try:
            return self._file.lots_end()
        except sqlite3.Error as error:
            self._note(error)
            return 0, 0

    def keep_lot(self, key: bytes, lot: Lot) -> None:
        """Keep one."""
        self._changes.lots[key] = lot

    def forget_lots(self) -> None:
        """Forget all."""
        self._changes.all_lots_gone = True
        self._changes.lots.clear()

    # To disk.

    async def flush(self) -> None:
        """Write what is new; CacheUnusable if that fails (it is kept for the next time)."""
        async with self._writing:
            if self._damage is not None:
                await self._replace_file(self._damage)
            while changes := self._take():
                try:
                    total = await trio.to_thread.run_sync(self._file.apply, changes)
                except sqlite3.Error as error:
                    self._note(error)
                    raise self._health.failed(f"catalog: {error}") from error
                self._recorded_bytes = total
                self._new_bytes = sum(self._changes.grown.values())
                self._unwritten = None

    async def aclose(self) -> None:
        """Close the file, without a flush."""
        async with self._writing:
            await trio.to_thread.run_sync(self._file.close)

    def _take(self) -> Changes:
        if not self._unwritten:
            self._unwritten, self._changes = self._changes, Changes()
            uses: dict[bytes, int] = {}
            for (nar_hash, _), used in self._unwritten.used.items():
                uses[nar_hash] = max(used, uses.get(nar_hash, 0))
            for nar_hash, used in uses.items():
                self._unwritten.used[nar_hash, INDEX] = used
        return self._unwritten

    def _forget_news(self, nar_hash: bytes, segment: int) -> None:
        self._changes.used.pop((nar_hash, segment), None)
        self._new_bytes -= self._changes.grown.pop((nar_hash, segment), 0)

    def _note(self, error: sqlite3.Error) -> None:
        if isinstance(error, sqlite3.DatabaseError) and _is_damage(error):
            self._damage = error

    async def _replace_file(self, damage: sqlite3.DatabaseError) -> None:
        try:
            await trio.to_thread.run_sync(self._file.close)
            self._file = await trio.to_thread.run_sync(_begin_anew, self._file.path, damage)
        except (OSError, sqlite3.Error) as error:
            raise self._health.failed(f"catalog: {error}") from error
        self._damage = None
        self._recorded_bytes = 0
        self.knows_all = False


def _add(unwritten: dict[K, T], key: K, value: T) -> None:
    if key in unwritten or len(unwritten) < _UNWRITTEN_MAX:
        unwritten[key] = value


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell damage, which only a new file cures, from trouble of the disk, which may pass.

    SQLITE_ERROR: a table is not there; no statement of ours is wrong otherwise. One without a code is Python's own,
    of a text that is no UTF-8.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return not isinstance(error, sqlite3.OperationalError) or code == sqlite3.SQLITE_ERROR


def _begin_anew(path: Path, damage: sqlite3.DatabaseError) -> CatalogFile:
    aside = move_aside(path)
    file = CatalogFile(path)
    _log.warning("cache catalog %s: %s; moved to %s and begun anew", path, damage, aside.name)
    return file
