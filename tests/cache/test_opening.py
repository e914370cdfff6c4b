"""Opening a cache, and the first look-up in it, cost the same however many NARs it knows."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from narfs.cache.budget import INDEX
from narfs.cache.catalog_file import CatalogFile, Changes, StoredNarInfo
from narfs.cache.layout import Layout
from narfs.cache.nar_file import install
from narfs.cache.places import Places
from narfs.formats import base32
from tests.cache.nars import CHUNK, make_nar, opened

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = 10_000
LOOKS_AT_FILES = {"open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir"}


def fill(directory: Path, count: int) -> bytes:
    """Make a cache that knows ``count`` NARs; gives the NarHash of one that is really there."""
    places = Places(directory)
    places.nars.mkdir(parents=True)
    nar = make_nar(CHUNK)
    places.scratch.mkdir()
    install(places, Layout.of(nar.nar_hash, nar.index.grid, random_access=False), nar.index.to_bytes(), None)
    hashes = [number.to_bytes(32, "big") for number in range(count)]
    for nar_hash in hashes:
        path = places.index(nar_hash)
        if not path.parent.exists():
            path.parent.mkdir()
        path.touch()
    catalog = CatalogFile(places.catalog)
    catalog.apply(
        Changes(
            grown={(nar_hash, segment): CHUNK for nar_hash in hashes for segment in (INDEX, 0)},
            narinfos={
                ("file:///lake", base32.encode(nar_hash[12:])): StoredNarInfo(bytes(500), 1.0) for nar_hash in hashes
            },
        )
    )
    catalog.close()
    return nar.nar_hash


async def effort(directory: Path, count: int) -> Counter[str]:
    """Count what opening and a first look-up of each kind look at."""
    nar_hash = fill(directory, count)
    seen: Counter[str] = Counter()
    counting = False

    def count_one(event: str, _: tuple[Any, ...]) -> None:
        if counting and event in LOOKS_AT_FILES:
            seen[event] += 1

    sys.addaudithook(count_one)
    counting = True
    async with opened(directory) as cache:
        assert cache.statistics().used_bytes == 2 * CHUNK * count
        assert cache.nar(nar_hash) is not None
        assert cache.nar(bytes(31) + b"\xff\xff") is None
        assert cache.catalog.narinfo("file:///lake", base32.encode(bytes(19) + b"\1")) is not None
        counting = False
    return seen


async def test_opening_a_cache_of_ten_thousand_nars_looks_at_as_many_files_as_opening_a_small_one(
    tmp_path: Path,
) -> None:
    few = await effort(tmp_path / "few", 10)
    many = await effort(tmp_path / "many", KNOWN)
    assert many == few
    assert sum(many.values()) < 40


async def test_the_total_is_one_row_and_the_oldest_unit_is_found_by_an_index(tmp_path: Path) -> None:
    catalog = CatalogFile(tmp_path / "catalog.sqlite")
    plans = [
        row[3]
        for query in (
            "SELECT nar_hash, segment, size FROM unit ORDER BY used, segment DESC",
            "SELECT coalesce(max(used), 0) FROM unit",
        )
        for row in catalog._writer.execute(f"EXPLAIN QUERY PLAN {query}")
    ]
    catalog.close()
    assert plans == ["SCAN unit USING COVERING INDEX unit_by_use", "SEARCH unit USING COVERING INDEX unit_by_use"]
