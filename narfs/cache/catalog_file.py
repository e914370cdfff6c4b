"""CatalogFile: sizes and recency of units, narinfos and who signed them, roots and lots in one SQLite file.

Blocking; raises sqlite3.Error.

Two connections. The writer is used by one thread at a time and checkpoints (fsync, milliseconds) there. The reader
answers point look-ups on the event loop: 10 µs for a narinfo in memory; in WAL mode it never waits for the writer.

What is read of a narinfo or a lot is cast to what it has to be: of a text that is no UTF-8 any more Python makes an
error, and a value whose type rotted would not be bytes.

synchronous=NORMAL: nothing is fsynced but checkpoints, a power cut loses the last transactions and cannot tear the
file. OFF would save those fsyncs, every 1 000 pages, and risk the file for it.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, NamedTuple

from narfs.cache import vouched
from narfs.cache.budget import Unit
from narfs.formats.erofs.lot import Lot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from narfs.formats.signature import PublicKey

_VERSION: Final = 1
"""The schema below says it too."""
_KNOWS_ALL: Final = 0x6E617266
"""The application_id of a file that sizes were recorded in since it was made: until then the budget is blind."""
_NARINFOS_MAX: Final = 100_000
"""About 200 MB; the oldest written go first."""
_ROOTS_MAX: Final = 100_000

_SCHEMA: Final = """
    BEGIN;
    CREATE TABLE unit (
        nar_hash BLOB NOT NULL, segment INTEGER NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL,
        PRIMARY KEY (nar_hash, segment)
    ) WITHOUT ROWID;
    CREATE INDEX unit_by_use ON unit (used, segment DESC, nar_hash, size);
    CREATE TABLE total (size INTEGER NOT NULL);
    INSERT INTO total VALUES (0);
    CREATE TRIGGER unit_comes AFTER INSERT ON unit BEGIN UPDATE total SET size = size + new.size; END;
    CREATE TRIGGER unit_goes AFTER DELETE ON unit BEGIN UPDATE total SET size = size - old.size; END;
    CREATE TRIGGER unit_grows AFTER UPDATE OF size ON unit
        BEGIN UPDATE total SET size = size + new.size - old.size; END;
    CREATE TABLE narinfo (
        lake TEXT NOT NULL, hash_part TEXT NOT NULL, text BLOB NOT NULL, time REAL NOT NULL,
        UNIQUE (lake, hash_part) ON CONFLICT REPLACE
    );
    CREATE TABLE root (
        nar_hash BLOB NOT NULL UNIQUE ON CONFLICT REPLACE,
        kind INTEGER NOT NULL, executable INTEGER NOT NULL, size INTEGER NOT NULL
    );
    PRAGMA user_version = 1;
    COMMIT;
"""


_LOTS: Final = """
    CREATE TABLE IF NOT EXISTS lot (
        key BLOB NOT NULL PRIMARY KEY, block INTEGER NOT NULL, blocks INTEGER NOT NULL,
        slab_block INTEGER NOT NULL, slab_blocks INTEGER NOT NULL
    )
"""
_VOUCHED: Final = """
    CREATE TABLE IF NOT EXISTS vouched (
        lake TEXT NOT NULL, hash_part TEXT NOT NULL, key TEXT NOT NULL, proof BLOB NOT NULL,
        UNIQUE (lake, hash_part) ON CONFLICT REPLACE
    );
    CREATE TRIGGER IF NOT EXISTS narinfo_goes AFTER DELETE ON narinfo
        BEGIN DELETE FROM vouched WHERE lake = old.lake AND hash_part = old.hash_part; END;
"""
"""Both came later, and are nothing that an older version minds."""


class StoredNarInfo(NamedTuple):
    """The text of a narinfo, and when the lake sent it (seconds since the epoch)."""

    text: bytes
    time: float
    voucher: PublicKey | None = None
    """A key that was found to have signed it. Whether that counts is the reader's to say."""


class Checked(NamedTuple):
    """What came of some rows of signatures; ``last`` is the last of them, None if there are no more."""

    last: int | None
    wrong: list[tuple[str, str]]
    """Lakes and hash parts of narinfos that no key signed that is said to have done so."""


class StoredRoot(NamedTuple):
    """What the first kilobytes of a NAR said of its root node; ``kind`` is the number of a Kind."""

    kind: int
    executable: bool
    size: int


class Contents(NamedTuple):
    """How much a catalog knows of."""

    nars: int
    narinfos: int


@dataclass(slots=True)
class Changes:
    """What happened since the last batch, to be applied in the order of the fields."""

    gone_nars: set[bytes] = field(default_factory=set)
    gone_units: set[tuple[bytes, int]] = field(default_factory=set)
    grown: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """Bytes that came to a unit; negative: that left it."""
    used: dict[tuple[bytes, int], int] = field(default_factory=dict)
    narinfos: dict[tuple[str, str], StoredNarInfo] = field(default_factory=dict)
    roots: dict[bytes, StoredRoot] = field(default_factory=dict)
    all_lots_gone: bool = False
    lots: dict[bytes, Lot] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


class CatalogFile:
    """One open file; made if absent. sqlite3.DatabaseError if it is something else or of another version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = _connect(path)
        try:
            if self._writer.execute("PRAGMA user_version").fetchone() == (0,):
                self._writer.executescript(_SCHEMA)
            if self._writer.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                raise sqlite3.DatabaseError(f"not a catalog of version {_VERSION}")  # noqa: TRY301 - as SQLite would say it
            self.total_bytes()
            self._writer.execute(_LOTS)
            self._writer.executescript(_VOUCHED)
            self._reader = _connect(path)
        except BaseException:
            self._writer.close()
            raise

    def close(self) -> None:
        """Close both connections; the last one checkpoints."""
        self._reader.close()
        self._writer.close()

    # On the event loop.

    def narinfo(self, lake: str, hash_part: str) -> StoredNarInfo | None:
        """Look one narinfo up."""
        row = self._reader.execute(
            "SELECT coalesce(CAST(text AS BLOB), x''), coalesce(CAST(time AS REAL), 0),"
            " CAST(key AS BLOB), CAST(proof AS BLOB)"
            " FROM narinfo LEFT JOIN vouched USING (lake, hash_part) WHERE lake = ? AND hash_part = ?",
            (lake, hash_part),
        ).fetchone()
        if row is None:
            return None
        text, time, key, proof = row
        return StoredNarInfo(text, time, vouched.voucher(text, key, proof))

    def root(self, nar_hash: bytes) -> StoredRoot | None:
        """Look one root up."""
        row = self._reader.execute(
            "SELECT kind, executable <> 0, size FROM root"
            " WHERE nar_hash = ? AND kind IN (0, 1, 2) AND typeof(size) = 'integer'",
            (nar_hash,),
        ).fetchone()
        return None if row is None else StoredRoot(row[0], bool(row[1]), row[2])

    def lot(self, key: bytes) -> Lot | None:
        """Look one lot up."""
        row = self._reader.execute(
            "SELECT CAST(block AS INTEGER), CAST(blocks AS INTEGER), CAST(slab_block AS INTEGER),"
            " CAST(slab_blocks AS INTEGER) FROM lot WHERE key = ?",
            (key,),
        ).fetchone()
        return None if row is None else Lot(*row)

    def lots_end(self) -> tuple[int, int]:
        """Give the blocks of images and of slabs behind all lots: they are given, and written, in ascending order."""
        row = self._reader.execute(
            "SELECT CAST(block + blocks AS INTEGER), CAST(slab_block + slab_blocks AS INTEGER)"
            " FROM lot ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        return (0, 0) if row is None else row

    def size_of(self, nar_hash: bytes) -> int:
        """Give the bytes that are recorded for one NAR."""
        size: int = self._reader.execute(
            "SELECT coalesce(sum(size), 0) FROM unit WHERE nar_hash = ?", (nar_hash,)
        ).fetchone()[0]
        return size

    # In a thread.

    def total_bytes(self) -> int:
        """Give the bytes that are recorded for all NARs; one row, however many there are."""
        size: int = self._writer.execute("SELECT size FROM total").fetchone()[0]
        return size

    def check(self) -> bool:
        """Read every page; say whether the total had to be put right. sqlite3.DatabaseError says what is damaged."""
        found = self._writer.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        summed = self._writer.execute("SELECT coalesce(sum(size), 0) FROM unit").fetchone()
        return self._writer.execute("UPDATE total SET size = ?1 WHERE size <> ?1", summed).rowcount > 0

    def drop_unsigned(self, after: int, rows: int) -> Checked:
        """Check the signatures of so many rows, 0.1 ms each, and forget which key signed where none did."""
        found = self._writer.execute(
            "SELECT vouched.rowid, CAST(lake AS BLOB), CAST(hash_part AS BLOB),"
            " coalesce(CAST(text AS BLOB), x''), coalesce(CAST(key AS BLOB), x'')"
            " FROM vouched JOIN narinfo USING (lake, hash_part)"
            " WHERE vouched.rowid > ? ORDER BY vouched.rowid LIMIT ?",
            (after, rows),
        ).fetchall()
        wrong = []
        for row, *name, text, key in found:
            if not vouched.is_signed(text, key):
                wrong.append((name[0].decode(errors="replace"), name[1].decode(errors="replace")))
                self._writer.execute("DELETE FROM vouched WHERE rowid = ?", (row,))
        return Checked(found[-1][0] if len(found) == rows else None, wrong)

    def contents(self) -> Contents:
        """Count."""
        nars = self._writer.execute("SELECT count(DISTINCT nar_hash) FROM unit").fetchone()[0]
        return Contents(nars, self._writer.execute("SELECT count(*) FROM narinfo").fetchone()[0])

    def knows_all(self) -> bool:
        """Say whether ``note_knows_all`` was called for this file."""
        marked: int = self._writer.execute("PRAGMA application_id").fetchone()[0]
        return marked == _KNOWS_ALL

    def note_knows_all(self) -> None:
        """Mark it."""
        self._writer.execute(f"PRAGMA application_id = {_KNOWS_ALL}")

    def keys(self) -> set[bytes]:
        """Give the key of every NAR that is recorded."""
        return {key for (key,) in self._writer.execute("SELECT DISTINCT nar_hash FROM unit")}

    def last_use(self) -> int:
        """Give the most recent time on the clock of uses."""
        last: int = self._writer.execute("SELECT coalesce(max(used), 0) FROM unit").fetchone()[0]
        return last

    def oldest_first(self) -> Iterator[Unit]:
        """Every unit, least recently used first; a NAR's index after its segments."""
        for row in self._writer.execute("SELECT nar_hash, segment, size FROM unit ORDER BY used, segment DESC"):
            yield Unit(*row)

    def apply(self, changes: Changes) -> int:
        """Write a batch, all or nothing; gives the new total."""
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            self._apply(changes)
            total = self.total_bytes()
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        return total

    def _apply(self, changes: Changes) -> None:
        many = self._writer.executemany
        many("DELETE FROM unit WHERE nar_hash = ?", ((nar_hash,) for nar_hash in changes.gone_nars))
        many("DELETE FROM unit WHERE nar_hash = ? AND segment = ?", changes.gone_units)
        many(
            "INSERT INTO unit VALUES (?1, ?2, max(0, ?3), ?4)"
            " ON CONFLICT DO UPDATE SET size = max(0, size + ?3), used = max(used, ?4)",
            ((*unit, size, changes.used.get(unit, 0)) for unit, size in changes.grown.items()),
        )
        many(
            "UPDATE unit SET used = ? WHERE nar_hash = ? AND segment = ?",
            ((used, *unit) for unit, used in changes.used.items()),
        )
        if changes.all_lots_gone:
            self._writer.execute("DELETE FROM lot")
        many("INSERT OR REPLACE INTO lot VALUES (?, ?, ?, ?, ?)", ((key, *lot) for key, lot in changes.lots.items()))
        if changes.narinfos:
            kept = changes.narinfos.items()
            many("INSERT INTO narinfo VALUES (?, ?, ?, ?)", ((*name, each.text, each.time) for name, each in kept))
            signers = ((name, each.text, str(each.voucher)) for name, each in kept if each.voucher is not None)
            many(
                "INSERT INTO vouched VALUES (?, ?, ?, ?)",
                ((*name, key, vouched.proof(text, key.encode())) for name, text, key in signers),
            )
            self._writer.execute(
                "DELETE FROM narinfo WHERE rowid <= (SELECT max(rowid) FROM narinfo) - ?", (_NARINFOS_MAX,)
            )
        if changes.roots:
            many("INSERT INTO root VALUES (?, ?, ?, ?)", ((key, *value) for key, value in changes.roots.items()))
            self._writer.execute("DELETE FROM root WHERE rowid <= (SELECT max(rowid) FROM root) - ?", (_ROOTS_MAX,))


def move_aside(path: Path) -> Path:
    """Put a damaged catalog out of the way, where somebody may look at it; gives its new name."""
    aside = path.with_name(path.name + ".damaged")
    with suppress(FileNotFoundError):  # it is there already, and the disk did not take a new one
        path.rename(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection
