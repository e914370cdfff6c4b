"""A NAR comes from whichever lake has it, as long as one of them works."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from narfs.errors import NarfsError
from narfs.offsets import NarOffset
from tests.engine.conftest import lose, read_tree
from tests.support.faults import Fault
from tests.support.lakes import Lake, Member, Recipe
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from tests.engine.conftest import House
    from tests.support.server import Server

MIB = 1 << 20
NOISE = random.Random(5).randbytes(2 * MIB)  # noqa: S311 - any noise will do
TREE: Tree = {b"first": File(NOISE[:MIB]), b"second": File(NOISE[MIB:])}
DIRECT = Recipe("none")
FRAMED = Recipe("zstd", frame_bytes=MIB // 4)
SOLID = Recipe("zstd")


def hide_file_size(lake: Lake, member: Member) -> None:
    lake.put(replace(member.narinfo, file_size=None, file_hash=None))


@pytest.mark.parametrize("trouble", [Fault(status=500), Fault(status=404), Fault(body_of="/nix-cache-info")])
async def test_what_a_root_is_comes_from_another_lake_when_the_first_one_has_no_good_blob(
    house: House, server: Server, tmp_path: Path, mock_clock: trio.testing.MockClock, trouble: Fault
) -> None:
    other = Lake(tmp_path / "other")
    member = house.lake.add("tree", TREE)
    other.add("tree", TREE)
    server.on("/nar/*", trouble)
    mock_clock.autojump_threshold = 0.05
    async with house.open(server.url, other.url) as store:
        accessor = await store.find(member.path)
        root = await accessor.peek()
        assert await read_tree(accessor) == TREE
        assert accessor.root == root


@pytest.mark.parametrize("file_size", [1, 10**12])
async def test_a_wrong_file_size_is_nobody_s_trouble(house: House, file_size: int) -> None:
    member = house.lake.add("tree", {b"small": File(b"small")})
    house.lake.put(replace(member.narinfo, file_size=file_size))
    async with house.open() as store:
        accessor = await store.find(member.path)
        assert (await accessor.peek()).size == 0
        assert await read_tree(accessor) == {b"small": File(b"small")}


@pytest.mark.parametrize("recipe", [DIRECT, FRAMED, SOLID], ids=["none", "zstd frames", "solid"])
async def test_lost_parts_come_from_another_lake_when_the_first_one_went_away(
    house: House, server: Server, tmp_path: Path, mock_clock: trio.testing.MockClock, recipe: Recipe
) -> None:
    other = Lake(tmp_path / "other")
    member = house.lake.add("tree", TREE, FRAMED)
    other.add("tree", TREE, recipe)
    async with house.open(server.url, other.url) as store:
        accessor = await store.find(member.path)
        await read_tree(accessor)
        server.on("/nar/*", Fault(status=500))
        mock_clock.autojump_threshold = 0.05
        await lose(accessor, range(8))
        assert await accessor.read(NarOffset(MIB), 1000) == member.nar[MIB : MIB + 1000]
        assert store.statistics().counters.passes_begun == (1 if recipe is FRAMED else 2)


@pytest.mark.parametrize("recipe", [FRAMED, SOLID], ids=["zstd frames", "solid"])
async def test_without_a_cache_the_stream_comes_from_another_lake_too(
    house: House, server: Server, tmp_path: Path, mock_clock: trio.testing.MockClock, recipe: Recipe
) -> None:
    other = Lake(tmp_path / "other")
    member = house.lake.add("tree", TREE, recipe)
    other.add("tree", TREE, Recipe("xz"))
    async with house.open(server.url, other.url, cached=False) as store:
        accessor = await store.find(member.path)
        await accessor.settle()
        server.on("/nar/*", Fault(status=404))
        mock_clock.autojump_threshold = 0.05
        assert await read_tree(accessor) == TREE


async def test_frames_are_those_of_the_lake_that_the_pass_came_from(
    house: House, server: Server, tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    other = Lake(tmp_path / "other")
    member = house.lake.add("tree", TREE, SOLID)
    hide_file_size(house.lake, member)
    other.add("tree", TREE, FRAMED)
    server.on("/nar/*", Fault(flip_at=1000), times=1)
    async with house.open(server.url, other.url) as store:
        accessor = await store.find(member.path)
        assert await read_tree(accessor) == TREE
        mock_clock.jump(100)
        await lose(accessor, range(8))
        assert await accessor.read(NarOffset(MIB), 1000) == member.nar[MIB : MIB + 1000]
        counters = store.statistics().counters
        assert (counters.passes_begun, counters.range_fetches, counters.corrupt) == (1, 1, 0)


async def test_a_nar_that_was_compared_before_the_cache_failed_is_not_fetched_again(
    house: House, server: Server
) -> None:
    member = house.lake.add("tree", TREE, DIRECT)
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        (house.cache_directory / "nar").rmdir()
        (house.cache_directory / "nar").write_bytes(b"no directory")
        await accessor.settle()
        assert len(server.asked("/nar/*")) == 1
        assert await read_tree(accessor) == TREE


async def test_when_every_lake_fails_it_is_said_once_and_asked_again_later(
    house: House, server: Server, tmp_path: Path
) -> None:
    other = Lake(tmp_path / "other")
    member = house.lake.add("tree", TREE)
    other.blob_file(other.add("tree", TREE)).write_bytes(b"broken")
    house.lake.blob_file(member).write_bytes(b"broken too")
    async with house.open(server.url, other.url) as store:
        accessor = await store.find(member.path)
        for _ in range(3):
            with pytest.raises(NarfsError):
                await read_tree(accessor)
        assert store.statistics().counters.passes_begun == 1


@pytest.mark.parametrize("restarted", [True, False])
async def test_a_path_that_was_built_anew_is_found_by_who_looks_for_it_next(house: House, *, restarted: bool) -> None:
    before = house.lake.add("tree", {b"built": File(b"once")})
    async with house.open() as store:
        known = await store.find(before.path)
        after = house.lake.add("tree", {b"built": File(b"and again")})
        house.lake.put(replace(after.narinfo, path=before.path, signatures=()).sign(house.lake.secret_key))
        house.lake.blob_file(before).unlink()
        house.lake.narinfo_file(after.path).unlink()
        if not restarted:
            with pytest.raises(NarfsError):
                await read_tree(known)
            assert await read_tree(await store.find(before.path)) == {b"built": File(b"and again")}
    async with house.open() as store:
        if restarted:
            with pytest.raises(NarfsError):
                await read_tree(await store.find(before.path))
        assert await read_tree(await store.find(before.path)) == {b"built": File(b"and again")}
    async with house.open() as store:
        assert await read_tree(await store.find(before.path)) == {b"built": File(b"and again")}
