"""Sizes, recency, narinfos and roots: known at once, on disk soon."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.cache import catalog as catalog_module
from narfs.cache import catalog_file
from narfs.cache.budget import INDEX, Unit
from narfs.cache.catalog import Catalog
from narfs.cache.catalog_file import CatalogFile, Changes, StoredNarInfo, StoredRoot
from narfs.cache.health import Health
from narfs.errors import CacheUnusable

if TYPE_CHECKING:
    from pathlib import Path

A, B = b"a" * 32, b"b" * 32
LAKE = "https://lake.example"


def open_catalog(directory: Path) -> Catalog:
    return Catalog.open(directory / "catalog.sqlite", Health(str(directory)))


async def reopen(catalog: Catalog, directory: Path) -> Catalog:
    await catalog.flush()
    await catalog.aclose()
    return open_catalog(directory)


async def test_a_narinfo_is_known_at_once_and_after_reopening(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    catalog.keep_narinfo(LAKE, "x", b"text", 12.5)
    assert catalog.narinfo(LAKE, "x") == StoredNarInfo(b"text", 12.5)
    assert catalog.narinfo("https://other.example", "x") is None
    catalog = await reopen(catalog, tmp_path)
    catalog.keep_narinfo(LAKE, "x", b"newer", 13.0)
    catalog = await reopen(catalog, tmp_path)
    assert catalog.narinfo(LAKE, "x") == StoredNarInfo(b"newer", 13.0)
    await catalog.aclose()


async def test_a_root_is_known_at_once_and_after_reopening(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    assert catalog.root(A) is None
    catalog.keep_root(A, 0, executable=True, size=1 << 40)
    assert catalog.root(A) == StoredRoot(0, True, 1 << 40)
    catalog = await reopen(catalog, tmp_path)
    assert catalog.root(A) == StoredRoot(0, True, 1 << 40)
    await catalog.aclose()


@pytest.mark.parametrize("rot", ["UPDATE root SET kind = 7", "UPDATE root SET size = CAST(x'ff' AS TEXT)"])
async def test_a_root_that_is_none_is_not_known(tmp_path: Path, rot: str) -> None:
    catalog = open_catalog(tmp_path)
    catalog.keep_root(A, 0, executable=True, size=7)
    catalog = await reopen(catalog, tmp_path)
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)) as other:
        other.execute(rot)
    assert catalog.root(A) is None
    await catalog.aclose()


async def test_a_text_that_is_none_is_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog = open_catalog(tmp_path)
    catalog.grow(A, 0, 10)
    await catalog.flush()
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)) as other:
        other.execute("UPDATE unit SET nar_hash = CAST(x'ff' AS TEXT)")
    with pytest.raises(CacheUnusable, match="UTF-8"):
        await catalog.keys()
    catalog.grow(B, 0, 5)
    await catalog.flush()
    assert await catalog.keys() == {B}
    assert "begun anew" in caplog.text
    await catalog.aclose()


async def test_a_catalog_that_could_not_be_begun_anew_is_when_the_disk_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> CatalogFile:
        raise sqlite3.OperationalError("unable to open database file")

    catalog = open_catalog(tmp_path)
    catalog.grow(A, 0, 10)
    await catalog.flush()
    catalog._note(sqlite3.DatabaseError("malformed"))
    with monkeypatch.context() as full:
        full.setattr(catalog_module, "CatalogFile", refuse)
        for _ in range(2):
            with pytest.raises(CacheUnusable):
                await catalog.flush()
    catalog.grow(B, 0, 5)
    await catalog.flush()
    assert await catalog.keys() == {B}
    assert (tmp_path / "catalog.sqlite.damaged").stat().st_size
    await catalog.aclose()


async def test_what_waits_for_a_disk_that_fails_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "_UNWRITTEN_MAX", 2)
    catalog = open_catalog(tmp_path)
    for text in (b"old", b"new"):
        for number in range(3):
            catalog.keep_narinfo("lake", str(number), text, 5)
    assert [catalog.narinfo("lake", str(number)) for number in range(3)] == [StoredNarInfo(b"new", 5)] * 3
    catalog = await reopen(catalog, tmp_path)
    assert [catalog.narinfo("lake", str(number)) for number in range(3)] == [StoredNarInfo(b"new", 5)] * 2 + [None]
    await catalog.aclose()


async def test_old_narinfos_make_way_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_file, "_NARINFOS_MAX", 10)
    catalog = open_catalog(tmp_path)
    for number in range(25):
        catalog.keep_narinfo(LAKE, str(number), b"", 0.0)
    catalog = await reopen(catalog, tmp_path)
    assert [number for number in range(25) if catalog.narinfo(LAKE, str(number))] == list(range(15, 25))
    await catalog.aclose()


async def test_the_least_recently_used_unit_is_chosen_and_an_index_after_its_segments(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    for nar_hash, segment in ((A, INDEX), (A, 0), (B, INDEX), (B, 0), (B, 1)):
        catalog.grow(nar_hash, segment, 10)
    catalog.touch(A, 0)
    catalog = await reopen(catalog, tmp_path)
    assert catalog.used_bytes == 50
    order = [Unit(B, 0, 10), Unit(B, 1, 10), Unit(B, INDEX, 10), Unit(A, 0, 10), Unit(A, INDEX, 10)]
    assert await catalog.choose(1000, set()) == order
    assert await catalog.choose(11, {(B, 1)}) == [order[0], order[2]]
    catalog.touch(B, 1)
    await catalog.flush()
    assert [unit[:2] for unit in await catalog.choose(1000, set())] == [
        (B, 0), (A, 0), (A, INDEX), (B, 1), (B, INDEX)
    ]  # fmt: skip
    await catalog.aclose()


async def test_what_is_gone_is_gone_and_may_come_again(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    catalog.grow(A, 0, 10)
    catalog.grow(A, 1, 10)
    catalog.grow(B, 0, 10)
    await catalog.flush()
    catalog.grow(A, 0, 5)
    catalog.forget_nar(A)
    catalog.forget_unit(B, 0)
    catalog.grow(B, 0, 3)
    await catalog.flush()
    assert catalog.used_bytes == 3
    assert catalog.size_of(A) == 0
    assert catalog.size_of(B) == 3
    await catalog.aclose()


units = st.tuples(st.sampled_from([A, B]), st.integers(INDEX, 2))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), units, st.integers(1, 100)),
        st.tuples(st.just("forget_unit"), units, st.just(0)),
        st.tuples(st.just("forget_nar"), units, st.just(0)),
        st.tuples(st.just("flush"), units, st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(steps=steps)
def test_the_total_is_the_sum_of_what_came_and_did_not_go(steps: list[tuple[str, tuple[bytes, int], int]]) -> None:
    catalog = CatalogFile.__new__(CatalogFile)
    catalog._writer = sqlite3.connect(":memory:", isolation_level=None)
    catalog._writer.executescript(catalog_file._SCHEMA + catalog_file._LOTS)
    model: dict[tuple[bytes, int], int] = {}
    for step, unit, size in steps:
        if step == "grow":
            catalog.apply(Changes(grown={unit: size}, used={unit: 1}))
            model[unit] = model.get(unit, 0) + size
        elif step == "forget_unit":
            catalog.apply(Changes(gone_units={unit}))
            model.pop(unit, None)
        elif step == "forget_nar":
            catalog.apply(Changes(gone_nars={unit[0]}))
            model = {key: value for key, value in model.items() if key[0] != unit[0]}
    assert catalog.total_bytes() == sum(model.values())
    assert {unit[:2]: unit.size for unit in catalog.oldest_first()} == model
    catalog._writer.close()


async def test_a_catalog_of_another_version_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalog = open_catalog(tmp_path)
    catalog.grow(A, 0, 10)
    catalog = await reopen(catalog, tmp_path)
    await catalog.aclose()
    with sqlite3.connect(tmp_path / "catalog.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    catalog = open_catalog(tmp_path)
    assert catalog.used_bytes == 0
    assert len(caplog.records) == 1
    await catalog.aclose()


async def test_a_batch_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    other = sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)
    catalog._file._writer.execute("PRAGMA busy_timeout = 0")
    other.execute("BEGIN IMMEDIATE")
    catalog.grow(A, 0, 10)
    with pytest.raises(CacheUnusable, match="locked"):
        await catalog.flush()
    catalog.grow(A, 0, 7)
    catalog.grow(B, 0, 1)
    with pytest.raises(CacheUnusable, match="locked"):
        await catalog.flush()
    assert catalog.used_bytes == 18
    other.execute("ROLLBACK")
    other.close()
    await catalog.flush()
    assert catalog.used_bytes == 18
    assert catalog.size_of(A) == 17
    await catalog.aclose()


async def test_a_directory_in_the_place_of_the_catalog_makes_the_cache_unusable(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").mkdir()
    with pytest.raises(CacheUnusable):
        open_catalog(tmp_path)
