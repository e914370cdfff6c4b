"""Parts of a verified NAR are fetched again when the cache has lost them, or never had them; each is checked."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs.engine import restream
from narfs.errors import Unavailable
from narfs.offsets import CHUNK_BYTES, NarOffset
from tests.engine.conftest import contents, lose, read_tree
from tests.support.faults import Fault
from tests.support.lakes import Recipe
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from tests.engine.conftest import House
    from tests.support.server import Server

MIB = 1 << 20
NOISE = random.Random(3).randbytes(3 * MIB)  # noqa: S311 - any noise will do
HALF = len(NOISE) // 2
TREE: Tree = {b"first": File(NOISE[:HALF]), b"second": File(NOISE[HALF:])}

DIRECT = Recipe("none")
FRAMED = Recipe("zstd", frame_bytes=MIB // 4)
BLOCKS = Recipe("xz", frame_bytes=MIB // 4)
SOLID = Recipe("zstd")


@pytest.mark.parametrize("recipe", [DIRECT, FRAMED, BLOCKS], ids=["none", "zstd frames", "xz blocks"])
async def test_only_the_part_that_is_read_comes_again(house: House, server: Server, recipe: Recipe) -> None:
    member = house.lake.add("tree", TREE, recipe)
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        assert await read_tree(accessor) == TREE
        await lose(accessor, range(11))
        server.log.clear()
        start = NarOffset(MIB + 100)
        assert await accessor.read(start, 1000) == member.nar[start : start + 1000]
        [asked] = server.asked("/nar/*")
        assert asked.sent_bytes <= (CHUNK_BYTES if recipe is DIRECT else 0.6 * MIB)
        assert await accessor.read(start, 1000) == member.nar[start : start + 1000]
        assert len(server.asked("/nar/*")) == 1
        assert await read_tree(accessor) == TREE
        assert (
            sum(asked.sent_bytes for asked in server.asked("/nar/*"))
            <= house.lake.blob_file(member).stat().st_size * 1.2
        )


async def test_neighbours_are_asked_for_together(house: House, server: Server) -> None:
    member = house.lake.add("tree", TREE, DIRECT)
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        await read_tree(accessor)
        await lose(accessor, range(12))
        server.log.clear()
        assert await accessor.read(NarOffset(0), 2 * MIB) == member.nar[: 2 * MIB]
        assert len(server.asked("/nar/*")) == 1


@pytest.mark.parametrize("recipe", [DIRECT, FRAMED, BLOCKS], ids=["none", "zstd frames", "xz blocks"])
async def test_a_wrong_part_is_refused_and_the_whole_nar_streamed_again(
    house: House, server: Server, recipe: Recipe
) -> None:
    member = house.lake.add("tree", TREE, recipe)
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        await read_tree(accessor)
        await lose(accessor, range(12))
        server.on("/nar/*", Fault(flip_at=MIB + MIB // 8), times=2)
        assert await accessor.read(NarOffset(MIB), MIB // 2) == member.nar[MIB : MIB + MIB // 2]
        assert await read_tree(accessor) == TREE
        counters = store.statistics().counters
        assert (counters.corrupt, counters.passes_verified) == (2, 2)


async def test_a_solid_nar_that_was_evicted_passes_again(house: House, server: Server) -> None:
    member = house.lake.add("tree", TREE, SOLID)
    other = house.lake.add("other", {b"noise": File(NOISE[::-1])}, SOLID)
    async with house.open(server.url, budget_bytes=4 * MIB) as store:
        accessor = await store.find(member.path)
        assert await contents(accessor, b"first") == NOISE[:HALF]
        await read_tree(await store.find(other.path))
        assert await contents(accessor, b"second") == NOISE[HALF:]
        assert store.statistics().counters.passes_verified == 3


@pytest.mark.parametrize("recipe", [DIRECT, FRAMED, BLOCKS, SOLID], ids=["none", "zstd frames", "xz blocks", "solid"])
async def test_without_a_cache_everything_is_served_and_checked_all_the_same(
    house: House, server: Server, recipe: Recipe
) -> None:
    member = house.lake.add("tree", TREE, recipe)
    async with house.open(server.url, cached=False) as store:
        accessor = await store.find(member.path)
        assert await read_tree(accessor) == TREE
        assert await contents(accessor, b"first") == NOISE[:HALF]
        for start in range(0, len(member.nar), 128 * 1024):
            end = min(start + 128 * 1024, len(member.nar))
            assert await accessor.read(NarOffset(start), end - start) == member.nar[start:end]


async def test_reading_forward_without_a_cache_costs_one_stream(house: House, server: Server) -> None:
    member = house.lake.add("tree", TREE, SOLID)
    async with house.open(server.url, cached=False) as store:
        accessor = await store.find(member.path)
        await accessor.children(0)
        server.log.clear()
        for start in range(0, len(member.nar) - 65_536, 65_536):
            await accessor.read(NarOffset(start), 65_536)
    assert len(server.asked("/nar/*")) == 1


@pytest.mark.parametrize("trouble", [MemoryError(), RuntimeError("can't start new thread")])
async def test_what_goes_wrong_in_a_stream_without_a_cache_is_its_readers_trouble_alone(
    house: House, server: Server, monkeypatch: pytest.MonkeyPatch, trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise trouble

    member = house.lake.add("tree", TREE, SOLID)
    async with house.open(server.url, cached=False) as store:
        accessor = await store.find(member.path)
        await accessor.children(0)
        with monkeypatch.context() as short:
            short.setattr(restream, "check", fail)
            with trio.fail_after(5), pytest.raises(Unavailable):
                await contents(accessor, b"first")
        assert await contents(accessor, b"first") == NOISE[:HALF]
    assert "a piece of work" in caplog.text


async def test_a_stream_that_changed_since_it_was_verified_is_refused(
    house: House, server: Server, mock_clock: trio.testing.MockClock
) -> None:
    member = house.lake.add("tree", TREE, SOLID)
    async with house.open(server.url, cached=False) as store:
        accessor = await store.find(member.path)
        await accessor.children(0)
        blob = house.lake.blob_file(member)
        good = blob.read_bytes()
        changed = house.lake.add("changed", {b"first": File(NOISE[:-1])}, SOLID)
        blob.write_bytes(house.lake.blob_file(changed).read_bytes())
        with pytest.raises(Exception, match=r"NAR|blob"):
            await contents(accessor, b"second")
        blob.write_bytes(good)
        mock_clock.jump(2)
        assert await contents(accessor, b"second") == NOISE[HALF:]


async def test_an_index_whose_frames_belong_to_another_blob_is_not_used_for_ranges(
    house: House, server: Server
) -> None:
    member = house.lake.add("tree", TREE, FRAMED)
    async with house.open(server.url) as store:
        await read_tree(await store.find(member.path))
    recompressed = house.lake.add("tree", TREE, Recipe("xz"))
    house.lake.put(replace(recompressed.narinfo, path=member.path))
    (house.cache_directory / "catalog.sqlite").unlink()
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        await lose(accessor, range(10))
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.passes_verified == 1


async def test_three_hundred_megabytes_of_zeros_pass_in_little_memory(house: House) -> None:
    member = house.lake.add("zeros", {b"zeros": File(bytes(300 * MIB))}, Recipe("zstd"))
    async with house.open() as store:
        accessor = await store.find(member.path)
        assert await accessor.children(0)
        peaks_kib = [
            peak_kib(child) for child in children() if b"narfs.engine.worker" in child.joinpath("cmdline").read_bytes()
        ]
        assert peaks_kib
        assert max(peaks_kib) < 100 * 1024


def children() -> list[Path]:
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [Path("/proc", pid) for pid in pids]


def peak_kib(process: Path) -> int:
    [line] = [line for line in process.joinpath("status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])
