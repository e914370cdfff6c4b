"""An audit finds every fault that is planted, drops it, says so, and finds nothing more the next time."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs.cache.audit import Cursor, Findings
from narfs.cache.budget import INDEX
from narfs.cache.layout import HEADER_BYTES
from narfs.cache.pins import Pin
from narfs.errors import CacheUnusable
from narfs.formats import base32
from narfs.formats.erofs.lot import Lot
from narfs.offsets import NarOffset
from tests.cache.nars import CHUNK, MIB, keep, make_nar, opened, read_all
from tests.cache.test_damage import (
    empty,
    file_of,
    flip,
    foreign,
    lengthen,
    of_another_version,
    remove,
    truncate,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from narfs.cache.chunk_cache import ChunkCache

NARS = [make_nar(size * CHUNK, seed=size) for size in (5, 1, 12)]
NAR = NARS[0]
NAME = base32.encode(NAR.nar_hash)
KEY = b"k" * 32


async def filled(directory: Path) -> None:
    async with opened(directory) as cache:
        for nar in NARS:
            await keep(cache, nar)
        cache.catalog.keep_lot(KEY, Lot(7, 1, 9, 1))
        await cache.catalog.flush()
        assert await cache.parts.keep(NAR.nar_hash, KEY, Lot(7, 1, 9, 1), b"a part")


async def audited(cache: ChunkCache, seconds: float = 60) -> Findings:
    """Do all steps; add up what they found."""
    total, cursor = Findings(), None
    while True:
        found, cursor = await cache.audit().step(cursor, seconds)
        total.nars += found.nars
        total.chunks += found.chunks
        total.compared_bytes += found.compared_bytes
        total.dropped += found.dropped
        total.left += found.left
        if cursor is None:
            return total


async def test_a_cache_without_faults_is_read_whole_and_kept_whole(tmp_path: Path) -> None:
    await filled(tmp_path)
    files = [file_of(tmp_path, nar, suffix) for nar in NARS for suffix in (".index", ".map", ".nar")]
    async with opened(tmp_path) as cache:
        found = await audited(cache)
        assert found == Findings(nars=3, chunks=18, compared_bytes=18 * CHUNK)
        assert cache.statistics().open_nars == 0
        for nar in NARS:
            cached = cache.nar(nar.nar_hash)
            assert cached is not None
            assert await read_all(cached) == nar.data
    assert [file for file in (*files, file_of(tmp_path, NAR, ".part")) if not file.exists()] == []


async def test_steps_of_no_time_come_to_the_end_too(tmp_path: Path) -> None:
    await filled(tmp_path)
    large = make_nar(20 * MIB, chunk_bytes=MIB)
    async with opened(tmp_path) as cache:
        await keep(cache, large)
        flip(file_of(tmp_path, large, ".nar"), 19 * MIB)
        found = await audited(cache, 0)
        assert (found.nars, found.chunks) == (4, 38)
        assert [flaw.file for flaw in found.dropped] == [base32.encode(large.nar_hash)]
        _, cursor = await cache.audit().step(Cursor("zz"), 0)
        assert cursor is None


PLANTED: list[tuple[str, Callable[[Path], None]]] = [
    *((".index", damage) for damage in (truncate, lengthen, empty, of_another_version, foreign, remove)),
    *((".map", damage) for damage in (remove, truncate, lengthen, empty, of_another_version, foreign)),
    *((".nar", damage) for damage in (remove, truncate, lengthen, empty, foreign)),
    *((".part", damage) for damage in (truncate, lengthen, empty, of_another_version, foreign)),
]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(("suffix", "damage"), PLANTED)
async def test_every_damaged_file_is_found_and_dropped(
    tmp_path: Path, suffix: str, damage: Callable[[Path], None], live: bool
) -> None:
    await filled(tmp_path)
    if not live:
        damage(file_of(tmp_path, NAR, suffix))
    async with opened(tmp_path) as cache:
        held = cache.nar(NAR.nar_hash) if live else None
        if live:
            damage(file_of(tmp_path, NAR, suffix))
        found = await audited(cache)
        assert [flaw.file.partition(".")[0] for flaw in found.dropped] == [NAME]
        assert (await audited(cache)).dropped == []
        await cache.catalog.flush()
        on_disk = sum(len(nar.data) for nar in NARS if file_of(tmp_path, nar, ".index").exists())
        assert on_disk - CHUNK <= cache.statistics().used_bytes <= on_disk + 3 * 8192  # a bad chunk counts no more
        harmless = suffix == ".part" or (suffix, damage) == (".nar", foreign)
        assert held is None or held.retired is not harmless
        again = await keep(cache, NAR)
        assert await read_all(again) == NAR.data


@pytest.mark.parametrize("checked", [False, True])
async def test_a_flipped_bit_is_found_also_in_a_chunk_that_was_compared_before(tmp_path: Path, checked: bool) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as cache:
        held = cache.nar(NAR.nar_hash)
        assert held is not None
        if checked:
            assert await read_all(held) == NAR.data
        flip(file_of(tmp_path, NAR, ".nar"), 2 * CHUNK + 5)
        found = await audited(cache)
        assert found.dropped == [(NAME, "1 chunks differ from their digests")]
        assert held.missing(NarOffset(0), len(NAR.data)) == [2]
        await held.write(2, NAR.chunk(2))
        assert await read_all(held) == NAR.data
        assert (await audited(cache)).dropped == []


async def test_claims_of_a_kind_that_nobody_makes_are_withdrawn(tmp_path: Path) -> None:
    await filled(tmp_path)
    with file_of(tmp_path, NAR, ".map").open("r+b") as file:
        file.seek(HEADER_BYTES + 1)
        file.write(b"\x07\xff")
    async with opened(tmp_path) as cache:
        assert (await audited(cache)).dropped == [(f"{NAME}.map", "2 claims of a kind that nobody makes")]
        assert (await audited(cache)).dropped == []


async def test_a_claim_without_data_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await cache.keep_index(NAR.index, random_access=True)
    with file_of(tmp_path, NAR, ".map").open("r+b") as file:
        file.seek(HEADER_BYTES + 1)
        file.write(b"\x01\x01")
    async with opened(tmp_path) as cache:
        assert (await audited(cache)).dropped == [(NAME, "2 chunks differ from their digests")]


async def test_files_of_another_nar_are_found(tmp_path: Path) -> None:
    await filled(tmp_path)
    for suffix in (".index", ".map", ".nar"):
        shutil.copy(file_of(tmp_path, NARS[2], suffix), file_of(tmp_path, NARS[1], suffix))
    async with opened(tmp_path) as cache:
        found = await audited(cache)
        assert [flaw.file for flaw in found.dropped] == [base32.encode(NARS[1].nar_hash)]
        assert cache.nar(NARS[1].nar_hash) is None


async def test_an_index_of_another_nar_goes_with_the_chunks_that_differ_from_it(tmp_path: Path) -> None:
    await filled(tmp_path)
    other = make_nar(len(NAR.data), seed=77)
    file_of(tmp_path, NAR, ".index").write_bytes(other.index.to_bytes())
    async with opened(tmp_path) as cache:
        assert (await audited(cache)).dropped == [(NAME, "5 chunks differ from their digests")]
        assert not file_of(tmp_path, NAR, ".index").exists()


async def test_what_has_no_name_of_ours_goes_and_what_may_be_somebodys_stays(tmp_path: Path) -> None:
    await filled(tmp_path)
    folder = tmp_path / "nar" / NAME[:2]
    strays = [
        folder / "core",
        folder / f"{NAME}.nar.new",
        folder / f"{NAME[2:]}.nar",
        folder / f"{base32.encode(bytes(32))}.nar",
        folder / "directory" / "file",
        tmp_path / "nar" / "e" / "file",
        tmp_path / "nar" / "ab",
        tmp_path / "scratch" / "directory" / "file",
    ]
    for stray in strays:
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"?")
    elsewhere = tmp_path / "thesis.tex"
    elsewhere.write_text("do not lose")
    folder.joinpath("link").symlink_to(elsewhere)
    async with opened(tmp_path) as cache:
        found = await audited(cache)
        assert [stray for stray in strays if stray.exists()] == []
        assert len(found.dropped) == len(strays)  # the link too, and what lay in scratch went before
        assert [flaw.file for flaw in found.left] == ["thesis.tex"]
        assert elsewhere.read_text() == "do not lose"


async def test_a_part_that_was_made_for_another_place_is_found(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as cache:
        cache.catalog.keep_lot(KEY, Lot(8, 1, 9, 1))
        assert [flaw.file for flaw in (await audited(cache)).dropped] == [f"{NAME}.part"]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    "garbage",
    [
        b"not SQLite" * 1000,
        b"SQLite format 3\0" + b"\xa5" * 8176,
        None,
    ],
)
async def test_a_damaged_catalog_is_begun_anew_and_knows_all_sizes_again(
    tmp_path: Path, garbage: bytes | None, live: bool
) -> None:
    async with opened(tmp_path) as cache:
        for number in range(2000):
            cache.catalog.keep_narinfo("file:///lake", str(number), bytes(200), 0.0)
        await cache.catalog.flush()
    await filled(tmp_path)

    def plant() -> None:
        with (tmp_path / "catalog.sqlite").open("r+b") as file:
            file.seek(0 if garbage else 30 * 4096)
            file.write(garbage or b"\xa5" * 4096 * 40)

    if not live:
        plant()
    async with opened(tmp_path) as cache:
        if live:
            held = cache.nar(NAR.nar_hash)
            assert held is not None
            plant()
        found = await audited(cache)
        if live or garbage is None:  # else it was begun anew when the cache was opened
            assert found.dropped[0].file == "catalog.sqlite"
        assert {flaw.file for flaw in found.dropped} <= {"catalog.sqlite", f"{NAME}.part"}
        await cache.catalog.flush()
        size = sum(len(nar.data) for nar in NARS)
        assert size <= cache.statistics().used_bytes <= size + 3 * 8192
        assert (await audited(cache)).dropped == []


async def test_a_catalog_without_its_tables_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as other:
        other.execute("CREATE TABLE diary (day TEXT)")
        other.execute("PRAGMA user_version = 1")
    async with opened(tmp_path) as cache:
        assert await read_all(await keep(cache, NAR)) == NAR.data
    assert "begun anew" in caplog.text


async def test_a_total_that_is_none_is_put_right(tmp_path: Path) -> None:
    await filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)) as catalog:
        catalog.execute("UPDATE total SET size = 5")
    async with opened(tmp_path) as cache:
        found = await audited(cache)
        assert [flaw.file for flaw in found.dropped] == ["catalog.sqlite"]
        assert cache.statistics().used_bytes > 18 * CHUNK


async def test_wrong_sizes_are_put_right_and_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as cache:
        right = cache.statistics().used_bytes
        cache.catalog.grow(NAR.nar_hash, 0, 5_000_000)
        cache.catalog.grow(bytes(32), INDEX, 7_000_000)
        await cache.catalog.flush()
        assert (await audited(cache)).dropped == []
        await cache.catalog.flush()
        assert abs(cache.statistics().used_bytes - right) < 3 * CHUNK


async def test_a_new_catalog_is_told_of_everything_before_anything_is_looked_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    await filled(tmp_path)
    (tmp_path / "catalog.sqlite").write_bytes(b"not SQLite" * 1000)
    async with opened(tmp_path):
        pass  # too short to record anything: that is for the next
    async with opened(tmp_path) as cache:
        assert cache.statistics().used_bytes == 0
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(4)
        gives_up = time.monotonic() + 60
        while cache.statistics().used_bytes <= 18 * CHUNK:
            await trio.to_thread.run_sync(lambda: None)
            assert time.monotonic() < gives_up
        before = cache.statistics().used_bytes
        assert await cache.load(NAR.nar_hash) is not None
        assert cache.statistics().used_bytes == before
    assert "begun anew" in caplog.text


async def test_an_audit_beside_readers_writers_and_evictions_drops_nothing(tmp_path: Path) -> None:
    nars = [make_nar(30 * CHUNK, seed=100 + number) for number in range(6)]
    async with opened(tmp_path, budget_bytes=100 * CHUNK) as cache, trio.open_nursery() as nursery:

        async def work() -> None:
            for number in range(40):
                nar = nars[number % len(nars)]
                cached = await cache.keep_index(nar.index, random_access=True)
                for chunk in cached.missing(NarOffset(0), len(nar.data)):
                    await cached.write(chunk, nar.chunk(chunk))
                assert await read_all(cached) in (nar.data, None)
            nursery.cancel_scope.cancel()

        nursery.start_soon(work)
        while True:
            found = await audited(cache, 0.01)
            assert found.dropped == []
            assert cache.statistics().bad_chunks == 0


async def test_a_pin_that_cannot_be_looked_at_for_want_of_descriptors_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as cache:
        await cache.pinned.keep(Pin("one", ()))

        def refuse(_: Path) -> bytes:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with monkeypatch.context() as poor:
            poor.setattr(pathlib.Path, "read_bytes", refuse)
            with pytest.raises(CacheUnusable, match="open files"):
                await cache.audit().step(None, 1)
        assert [file.name for file in (tmp_path / "pins").iterdir()] == ["one.json"]


async def test_a_pin_that_ends_during_an_audit_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as cache:
        await cache.pinned.keep(Pin("one", ()))

        def gone(path: Path) -> bytes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

        monkeypatch.setattr(pathlib.Path, "read_bytes", gone)
        findings, _ = await cache.audit().step(None, 1)
        assert findings.dropped == []
