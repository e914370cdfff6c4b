"""Lots and ready parts of EROFS images: the same again for the same tree, and never two in one place."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from narfs.cache import lots as lots_module
from narfs.cache.catalog import Catalog
from narfs.cache.health import Health
from narfs.cache.lots import Lots, Wanted
from narfs.errors import UsageError
from narfs.formats.erofs.image import FIRST_PART_BLOCK
from narfs.formats.erofs.lot import Lot
from narfs.formats.erofs.ondisk import BLOCKS_END
from tests.cache.nars import keep, make_nar, opened

if TYPE_CHECKING:
    from pathlib import Path

A, B, C = (Wanted(bytes([letter]) * 32, 3, 256) for letter in b"abc")


def open_catalog(directory: Path) -> Catalog:
    return Catalog.open(directory / "catalog.sqlite", Health(str(directory)))


def overlap(lots: list[Lot]) -> bool:
    images = sorted((lot.block, lot.block + lot.blocks) for lot in lots)
    slabs = sorted((lot.slab_block, lot.slab_block + lot.slab_blocks) for lot in lots)
    return any(each[i][1] > each[i + 1][0] for each in (images, slabs) for i in range(len(lots) - 1))


@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 3)))))
def test_lots_never_overlap_and_stay_what_they_are(views: list[list[tuple[int, int, int]]]) -> None:
    lots = Lots(None)
    known: dict[bytes, Lot] = {}
    for view in views:
        wanted = [Wanted(b"%d %d %d" % each, each[1], each[2] * 256) for each in view]
        for each, lot in zip(wanted, lots.give(wanted), strict=True):
            assert known.setdefault(each.key, lot) == lot
            assert (lot.blocks, lot.slab_blocks) == each[1:]
            assert lot.block >= FIRST_PART_BLOCK
    assert not overlap(list(known.values()))


async def test_lots_are_the_same_after_a_restart(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    before = Lots(catalog).give([A, B])
    await catalog.flush()
    await catalog.aclose()
    catalog = open_catalog(tmp_path)
    after = Lots(catalog).give([B, C, A])
    assert [after[2], after[0]] == before
    assert not overlap(after)
    await catalog.aclose()


async def test_lots_that_were_lost_are_given_to_others(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    before = Lots(catalog).give([A])
    await catalog.aclose()  # killed before the flush
    catalog = open_catalog(tmp_path)
    assert Lots(catalog).give([B]) == before
    await catalog.aclose()


@pytest.mark.parametrize(
    "rot",
    [
        "UPDATE lot SET slab_block = (SELECT min(slab_block) FROM lot)",
        "UPDATE lot SET block = (SELECT min(block) FROM lot)",
        "UPDATE lot SET block = (SELECT min(block) FROM lot), slab_block = 0",
        "UPDATE lot SET block = block - 1 WHERE slab_block > 0",
        "UPDATE lot SET block = 0",
        "UPDATE lot SET slab_block = -256",
        "UPDATE lot SET slab_block = 1 << 40",
        "UPDATE lot SET block = 'x'",
        "UPDATE lot SET slab_block = x'00'",
    ],
)
async def test_a_rotten_lot_is_nobodys_place(tmp_path: Path, rot: str) -> None:
    catalog = open_catalog(tmp_path)
    Lots(catalog).give([A, B])
    await catalog.flush()
    await catalog.aclose()
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)) as other:
        other.execute(rot)
    catalog = open_catalog(tmp_path)
    lots = Lots(catalog)
    for lot in (given := lots.give([A, B, C])):
        assert FIRST_PART_BLOCK <= lot.block <= BLOCKS_END - lot.blocks
        assert 0 <= lot.slab_block <= BLOCKS_END - lot.slab_blocks
    assert not overlap(given)
    assert lots.give([C, A, B]) == [given[2], *given[:2]]
    await catalog.flush()
    await catalog.aclose()
    catalog = open_catalog(tmp_path)
    assert not overlap(Lots(catalog).give([A, B, C]))
    await catalog.aclose()


async def test_when_all_is_given_it_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lots_module, "BLOCKS_END", FIRST_PART_BLOCK + 700)
    catalog = open_catalog(tmp_path)
    lots = Lots(catalog)
    large = Wanted(b"l" * 32, 3, FIRST_PART_BLOCK)
    assert lots.give([large, A])[1].slab_block == FIRST_PART_BLOCK
    again = lots.give([A, B, C])
    assert [lot.slab_block for lot in again] == [0, 256, 512]
    assert lots.give([B]) == [again[1]]
    with pytest.raises(UsageError, match="--frontend tree"):
        lots.give([A, B, large._replace(slab_blocks=BLOCKS_END)])
    await catalog.flush()
    await catalog.aclose()
    catalog = open_catalog(tmp_path)
    assert Lots(catalog).give([B])[0].slab_block == 0
    await catalog.aclose()


LOT = Lot(5000, 4, 256, 512)
KEY = b"k" * 32
PART = bytes(range(256)) * 32


def find_parts(directory: Path) -> list[Path]:
    return list(directory.rglob("*.part"))


async def test_a_part_is_ready_for_its_lot_and_no_other(tmp_path: Path) -> None:
    nar = make_nar(8000)
    async with opened(tmp_path) as cache:
        await cache.parts.keep(nar.nar_hash, KEY, LOT, PART)
        assert cache.parts.load(nar.nar_hash, KEY, LOT) is None  # its NAR is not here
        held = await keep(cache, nar)
        used = cache.statistics().used_bytes
        await cache.parts.keep(nar.nar_hash, KEY, LOT, PART)
        assert cache.statistics().used_bytes - used >= len(PART)
        assert bytes(cache.parts.load(nar.nar_hash, KEY, LOT) or b"") == PART
        for key, lot in ((b"x" * 32, LOT), (KEY, LOT._replace(block=1)), (KEY, LOT._replace(slab_block=0))):
            assert cache.parts.load(nar.nar_hash, key, lot) is None
        assert not held.retired
    async with opened(tmp_path) as cache:
        assert bytes(cache.parts.load(nar.nar_hash, KEY, LOT) or b"") == PART
        again = await cache.load(nar.nar_hash)
        assert again is not None
        again.drop()
        assert cache.parts.load(nar.nar_hash, KEY, LOT) is None


async def test_a_part_that_no_thread_can_write_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nar = make_nar(8000)
    async with opened(tmp_path) as cache:
        held = await keep(cache, nar)
        with monkeypatch.context() as short:
            short.setattr(trio.to_thread, "run_sync", no_thread)
            await cache.parts.keep(nar.nar_hash, KEY, LOT, PART)
        assert cache.parts.load(nar.nar_hash, KEY, LOT) is None
        assert not held.retired


async def no_thread(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


async def test_a_part_that_rotted_is_none(tmp_path: Path) -> None:
    nar = make_nar(8000)
    async with opened(tmp_path) as cache:
        await keep(cache, nar)
        await cache.parts.keep(nar.nar_hash, KEY, LOT, PART)
        (file,) = find_parts(tmp_path)
        good = file.read_bytes()
        for damaged in (good[:-1], good + b"\0", good[:100] + b"x" + good[101:], b"x" + good[1:], b""):
            file.write_bytes(damaged)
            assert cache.parts.load(nar.nar_hash, KEY, LOT) is None
        file.write_bytes(good)
        assert bytes(cache.parts.load(nar.nar_hash, KEY, LOT) or b"") == PART
