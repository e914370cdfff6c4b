"""What is found on disk and is not what it should be: a warning, a miss, and it heals."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING

import pytest

from narfs.cache.disk import Descriptor
from narfs.cache.layout import HEADER_BYTES
from narfs.formats import base32
from narfs.formats.index import NarIndex
from narfs.formats.nar import NarIndexer
from narfs.offsets import ChunkGrid, NarOffset
from tests.cache.nars import CHUNK, Nar, dice, keep, make_nar, opened, read_all
from tests.support.trees import File, dump

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = NarOffset(0)


def noise(size: int) -> bytes:
    return dice(size).randbytes(size)


def file_of(directory: Path, nar: Nar, suffix: str) -> Path:
    name = base32.encode(nar.nar_hash)
    return directory / "nar" / name[:2] / (name + suffix)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


async def cached_once(directory: Path, nar: Nar) -> None:
    async with opened(directory) as cache:
        await keep(cache, nar)


async def test_a_flipped_bit_makes_its_chunk_a_miss_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nar = make_nar(6 * CHUNK)
    await cached_once(tmp_path, nar)
    flip(file_of(tmp_path, nar, ".nar"), 2 * CHUNK + 17)
    flip(file_of(tmp_path, nar, ".nar"), 4 * CHUNK)
    async with opened(tmp_path) as cache:
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert await read_all(cached) is None
        assert cached.missing(START, len(nar.data)) == [2, 4]
        assert await cached.read(START, 2 * CHUNK) == nar.data[: 2 * CHUNK]
        assert cached.read_nowait(NarOffset(2 * CHUNK), 1) is None
        assert cache.statistics().bad_chunks == 2
        assert cache.statistics().misses == 1
        for chunk in (2, 4):
            await cached.write(chunk, nar.chunk(chunk))
        assert await read_all(cached) == nar.data
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "differ from their digests" in caplog.text
    async with opened(tmp_path) as cache:
        again = cache.nar(nar.nar_hash)
        assert again is not None
        assert await read_all(again) == nar.data


async def test_a_bad_chunk_is_not_claimed_after_reopening(tmp_path: Path) -> None:
    nar = make_nar(3 * CHUNK)
    await cached_once(tmp_path, nar)
    flip(file_of(tmp_path, nar, ".nar"), CHUNK)
    for expected in ([], [1]):
        async with opened(tmp_path) as cache:
            cached = cache.nar(nar.nar_hash)
            assert cached is not None
            assert cached.missing(START, len(nar.data)) == expected
            assert await read_all(cached) is None


@pytest.mark.parametrize("value", [2, 3, 0xFF])
async def test_a_claim_that_nobody_writes_is_none(tmp_path: Path, value: int) -> None:
    nar = make_nar(3 * CHUNK)
    await cached_once(tmp_path, nar)
    with file_of(tmp_path, nar, ".map").open("r+b") as file:
        file.seek(HEADER_BYTES + 1)
        file.write(bytes([value]))
    async with opened(tmp_path) as cache:
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert cached.missing(START, len(nar.data)) == [1]
        assert await cached.read(START, CHUNK) == nar.data[:CHUNK]


@pytest.mark.parametrize("passed", [False, True])
async def test_a_page_that_the_disk_did_not_take_is_a_miss_though_this_process_wrote_it(
    tmp_path: Path, passed: bool
) -> None:
    nar = make_nar(6 * CHUNK + 600)
    async with opened(tmp_path) as cache:
        cached = await keep(cache, nar) if passed else await cache.keep_index(nar.index, random_access=True)
        for chunk in cached.missing(START, len(nar.data)):
            await cached.write(chunk, nar.chunk(chunk))
        assert await read_all(cached) == nar.data
        Descriptor(file_of(tmp_path, nar, ".nar"), os.O_RDWR).punch(2 * CHUNK, CHUNK)  # it reads as zeros
        for start, length in ((2 * CHUNK, CHUNK), (3 * CHUNK - 8, 9), (2 * CHUNK - 1, 2), (2 * CHUNK + 1500, 8)):
            assert cached.read_nowait(NarOffset(start), length) is None
        assert await cached.read(NarOffset(2 * CHUNK + 77), 1) is None
        assert cached.missing(START, len(nar.data)) == [2]
        assert cache.statistics().bad_chunks == 1
        await cached.write(2, nar.chunk(2))
        assert await read_all(cached) == nar.data


async def test_zeros_of_the_nar_itself_are_compared_once(tmp_path: Path) -> None:
    tree = File(noise(5000) + bytes(30_000) + noise(5000) + bytes(700))
    data = dump(tree)
    grid = ChunkGrid(len(data), CHUNK)
    spans = [grid.span(chunk) for chunk in range(grid.count)]
    indexer = NarIndexer(len(data))
    indexer.feed(data)
    digests = b"".join(hashlib.sha256(data[span.start : span.end]).digest() for span in spans)
    nar = Nar(data, NarIndex(hashlib.sha256(data).digest(), len(data), indexer.finish(), grid, digests, None))
    async with opened(tmp_path) as cache:
        cached = await keep(cache, nar)
        assert cached.read_nowait(NarOffset(20_000), 4000) is None
        assert await read_all(cached) == data
        for start in range(0, len(data) - 100, 731):
            assert cached.read_nowait(NarOffset(start), 100) == data[start : start + 100]
        assert cache.statistics().bad_chunks == 0


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_version(path: Path) -> None:
    flip(path, 8)


def foreign(path: Path) -> None:
    path.write_bytes(b"\x7fELF" + path.read_bytes()[4:])


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        *((".index", damage) for damage in (truncate, lengthen, empty, of_another_version, foreign)),
        *((".map", damage) for damage in (remove, truncate, lengthen, empty, of_another_version, foreign)),
        *((".nar", damage) for damage in (remove, truncate, lengthen, empty)),
    ],
)
async def test_a_damaged_file_is_a_miss_and_the_nar_may_come_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, damage: Callable[[Path], None]
) -> None:
    nar = make_nar(3 * CHUNK)
    await cached_once(tmp_path, nar)
    damage(file_of(tmp_path, nar, suffix))
    async with opened(tmp_path) as cache:
        assert await cache.load(nar.nar_hash) is None
        assert len(caplog.records) == 1
        assert "fetching again" in caplog.text
        assert cache.nar(nar.nar_hash) is None
        assert len(caplog.records) == 1
        assert await read_all(await keep(cache, nar)) == nar.data


async def test_a_nar_that_cannot_be_opened_is_told_of_once_and_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nar = make_nar(3 * CHUNK)
    await cached_once(tmp_path, nar)
    index = file_of(tmp_path, nar, ".index")
    async with opened(tmp_path) as cache:
        for _ in range(2):
            aside = index.rename(index.with_suffix(".aside"))
            index.mkdir()  # opening it fails, and says nothing about what was there
            for _ in range(3):
                assert cache.nar(nar.nar_hash) is None
                assert await cache.load(nar.nar_hash) is None
            index.rmdir()
            aside.rename(index)
            cached = cache.nar(nar.nar_hash)
            assert cached is not None
            assert await read_all(cached) == nar.data
            cached.retire()
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


async def test_without_its_index_a_nar_is_nothing(tmp_path: Path) -> None:
    nar = make_nar(3 * CHUNK)
    await cached_once(tmp_path, nar)
    file_of(tmp_path, nar, ".index").unlink()
    async with opened(tmp_path) as cache:
        assert cache.nar(nar.nar_hash) is None
        assert await read_all(await keep(cache, nar)) == nar.data


@pytest.mark.parametrize("suffix", [".index", ".map"])
async def test_files_of_another_nar_are_not_taken_for_it(tmp_path: Path, suffix: str) -> None:
    nar, other = make_nar(3 * CHUNK), make_nar(3 * CHUNK, seed=1)
    async with opened(tmp_path) as cache:
        await keep(cache, nar)
        await keep(cache, other)
    file_of(tmp_path, nar, suffix).write_bytes(file_of(tmp_path, other, suffix).read_bytes())
    async with opened(tmp_path) as cache:
        assert cache.nar(nar.nar_hash) is None


async def test_a_map_with_other_chunks_than_its_index_is_not_taken(tmp_path: Path) -> None:
    coarse, fine = make_nar(4 * CHUNK, chunk_bytes=2 * CHUNK), make_nar(4 * CHUNK)
    await cached_once(tmp_path, coarse)
    index = file_of(tmp_path, coarse, ".index")
    index.write_bytes(fine.index.to_bytes())
    async with opened(tmp_path) as cache:
        assert cache.nar(coarse.nar_hash) is None


async def test_files_that_vanish_while_they_are_known_are_a_miss(tmp_path: Path) -> None:
    nar = make_nar(3 * CHUNK)
    async with opened(tmp_path) as cache:
        cached = await keep(cache, nar)
        cached.close()
        file_of(tmp_path, nar, ".nar").unlink()
        assert await read_all(cached) is None
        assert cached.retired
        assert await read_all(await keep(cache, nar)) == nar.data


async def test_a_file_that_shrinks_while_it_is_read_is_a_miss(tmp_path: Path) -> None:
    nar = make_nar(3 * CHUNK)
    async with opened(tmp_path) as cache:
        cached = await keep(cache, nar)
        with file_of(tmp_path, nar, ".nar").open("r+b") as file:
            file.truncate(CHUNK + 1)
        assert cached.read_nowait(NarOffset(CHUNK), CHUNK) is None
        assert await cached.read(NarOffset(CHUNK), CHUNK) is None
        assert cached.missing(START, len(nar.data)) == [1]
        assert await cached.read(START, CHUNK) == nar.data[:CHUNK]


@pytest.mark.parametrize("garbage", [b"not SQLite" * 1000, b"SQLite format 3\0" + b"\xa5" * 8176])
async def test_a_catalog_that_is_none_is_moved_aside_and_nars_are_found_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    nar = make_nar(3 * CHUNK)
    await cached_once(tmp_path, nar)
    (tmp_path / "catalog.sqlite").write_bytes(garbage)
    async with opened(tmp_path) as cache:
        assert len(caplog.records) == 1
        assert "moved to catalog.sqlite.damaged" in caplog.text
        assert cache.statistics().used_bytes == 0
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert await read_all(cached) == nar.data
        assert cache.statistics().used_bytes >= len(nar.data)
    assert (tmp_path / "catalog.sqlite.damaged").read_bytes() == garbage
    async with opened(tmp_path) as cache:
        assert cache.statistics().used_bytes >= len(nar.data)


async def test_a_catalog_that_breaks_while_it_is_used_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nar = make_nar(3 * CHUNK)
    async with opened(tmp_path) as cache:
        for number in range(2000):
            cache.catalog.keep_narinfo("file:///lake", str(number), bytes(200), 0.0)
        await cache.catalog.flush()
        await keep(cache, nar)
    with (tmp_path / "catalog.sqlite").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * 4096 * 40)
    async with opened(tmp_path) as cache:
        for number in range(2000):
            cache.catalog.narinfo("file:///lake", str(number))
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert await read_all(cached) == nar.data
        await cache.catalog.flush()
        assert "begun anew" in caplog.text
        cache.catalog.keep_narinfo("file:///lake", "1", b"new", 1.0)
        await cache.catalog.flush()
    async with opened(tmp_path) as cache:
        stored = cache.catalog.narinfo("file:///lake", "1")
        assert stored is not None
        assert stored.text == b"new"
