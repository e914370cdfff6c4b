"""Sealing lakes that exist, in place and into another lake."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.engine.means import Described
from narfs.formats.narinfo import NarInfo
from narfs.formats.seal import seal, unseal
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.lake.upstreams import open_lakes
from narfs.publish.sealer import SealedPath, SealReport, seal_lake
from narfs.publish.shard import WHOLE, Shard
from tests.support.faults import Fault
from tests.support.lakes import Lake, Member, Recipe
from tests.support.sealing import index_file
from tests.support.server import serve
from tests.support.trees import ODD_TREE, File, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from narfs.formats.index import NarIndex
    from narfs.lake.binary_cache import BinaryCache

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
TREE: Tree = {b"noise": File(random.Random(4).randbytes(700_000)), b"odd": ODD_TREE}  # noqa: S311 - any noise


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@asynccontextmanager
async def opened(*lakes: Lake | Path) -> AsyncIterator[list[BinaryCache]]:
    urls = [each.url if isinstance(each, Lake) else f"file://{each}" for each in lakes]
    async with open_lakes(urls) as upstreams:
        yield list(upstreams.lakes)


def described(lake: BinaryCache, *members: Member) -> list[Described]:
    return [Described(lake, member.narinfo) for member in members]


async def seal_in_place(lake: Lake, *members: Member) -> tuple[SealedPath, ...]:
    async with opened(lake) as [source]:
        return (await seal_lake(described(source, *members), KEY)).paths


async def copy(lake: Lake, to: Path, *members: Member) -> tuple[SealedPath, ...]:
    async with opened(lake, to) as [source, target]:
        return (await seal_lake(described(source, *members), KEY, to=target)).paths


def published(directory: Path, member: Member) -> tuple[NarInfo, NarIndex]:
    """Read what a lake says of a path now, the index verified."""
    narinfo = NarInfo.parse((directory / f"{member.path.hash_part}.narinfo").read_bytes(), expect=member.path)
    return narinfo, unseal((directory / (narinfo.index_name or "")).read_bytes(), narinfo, KEYS)


@pytest.mark.parametrize(
    ("recipe", "framed"),
    [
        (Recipe("none"), False),
        (Recipe("zstd"), False),
        (Recipe("zstd", frame_bytes=100_000), True),
        (Recipe("xz"), False),
        (Recipe("xz", frame_bytes=100_000), True),
    ],
    ids=["none", "zstd", "zstd frames", "xz", "xz blocks"],
)
async def test_a_lake_is_sealed_in_place_and_its_blobs_stay(lake: Lake, recipe: Recipe, framed: bool) -> None:
    member = lake.add("tree", TREE, recipe)
    blob = lake.blob_file(member).read_bytes()
    assert [one.status for one in await seal_in_place(lake, member)] == ["sealed"]
    narinfo, index = published(lake.directory, member)
    assert narinfo == member.narinfo.with_index(narinfo.index_name or "")
    assert (index.frames is not None) == framed
    assert lake.blob_file(member).read_bytes() == blob
    before = index_file(lake, narinfo).stat().st_mtime_ns
    assert [one.status for one in await seal_in_place(lake, member)] == ["present"]
    assert index_file(lake, narinfo).stat().st_mtime_ns == before


async def test_a_closure_is_copied_into_a_sealed_lake_and_keeps_its_signatures(lake: Lake, tmp_path: Path) -> None:
    library = lake.add("library", TREE, Recipe("xz", content_addressed=False))
    tool = lake.add("tool", ODD_TREE, Recipe("none", content_addressed=False), [library.path])
    to = tmp_path / "sealed"
    report = await copy(lake, to, tool, library)
    assert [(one.path, one.status) for one in report] == [(library.path.path, "sealed"), (tool.path.path, "sealed")]
    for member in (library, tool):
        narinfo, index = published(to, member)
        assert narinfo.signatures == member.narinfo.signatures
        assert narinfo.fingerprint == member.narinfo.fingerprint
        assert index.frames is not None
        assert (to / f"{member.path.hash_part}.ls").exists()
    assert [one.status for one in await copy(lake, to, tool, library)] == ["present", "present"]


async def test_a_bad_nar_is_told_of_and_stops_only_what_refers_to_it(lake: Lake, tmp_path: Path) -> None:
    bad = lake.add("bad", TREE)
    good = lake.add("good", ODD_TREE)
    user = lake.add("user", {b"a": File(b"b")}, references=[bad.path])
    lone = lake.add("lone", {b"a": File(b"c")}, references=[lake.add("elsewhere", {}).path])
    data = bytearray(lake.blob_file(bad).read_bytes())
    data[len(data) // 2] ^= 1
    lake.blob_file(bad).write_bytes(data)
    in_place = {one.path: one.status for one in await seal_in_place(lake, bad, good, user)}
    assert in_place == {bad.path.path: "failed", good.path.path: "sealed", user.path.path: "sealed"}
    assert not index_file(lake, bad.narinfo).exists()
    [told] = [one.error for one in await seal_in_place(lake, bad)]
    assert f"the NAR in {lake.url} is damaged" in (told or "")
    report = {one.path: one for one in await copy(lake, tmp_path / "to", bad, good, user, lone)}
    assert report[good.path.path].status == "sealed"
    assert {one.status for one in report.values()} == {"sealed", "failed"}
    assert f"refers to {bad.path.path}, which failed" in (report[user.path.path].error or "")
    assert "use --closure" in (report[lone.path.path].error or "")
    assert {file.name for file in (tmp_path / "to").glob("*.narinfo")} == {f"{good.path.hash_part}.narinfo"}


async def test_an_index_of_another_key_or_a_damaged_one_is_made_anew(lake: Lake) -> None:
    member = lake.add("tree", TREE)
    await seal_in_place(lake, member)
    narinfo, _ = published(lake.directory, member)
    index_file(lake, narinfo).write_bytes(b"NARFSEAL")
    assert [one.status for one in await seal_in_place(lake, member)] == ["sealed"]
    published(lake.directory, member)


def everything(directory: Path) -> dict[str, bytes]:
    """Read all that a lake has, by name."""
    files = (file for file in directory.rglob("*") if file.is_file())
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


async def index(lake: Lake, to: Path, *members: Member) -> list[str]:
    async with opened(lake, to) as [source, target]:
        return [one.status for one in (await seal_lake(described(source, *members), KEY, index_to=target)).paths]


def kept_index(directory: Path, member: Member) -> NarIndex:
    narinfo = member.narinfo.with_index("unused")
    return unseal((directory / f"{member.path.hash_part}.narfs").read_bytes(), narinfo, KEYS)


async def test_indexes_go_to_a_lake_of_their_own_and_the_original_is_not_written(lake: Lake, tmp_path: Path) -> None:
    library = lake.add("library", TREE, Recipe("xz"))
    tool = lake.add("tool", ODD_TREE, Recipe("zstd", frame_bytes=1000), [library.path])
    before, to = everything(lake.directory), tmp_path / "indexes"
    assert await index(lake, to, tool) == ["sealed"]  # an index needs no reference
    assert await index(lake, to, tool, library) == ["sealed", "present"]
    assert set(everything(to)) == {
        "nix-cache-info",
        f"{tool.path.hash_part}.narfs",
        f"{library.path.hash_part}.narfs",
    }
    assert (kept_index(to, library).frames, kept_index(to, tool).frames is None) == (None, False)
    assert everything(lake.directory) == before
    kept = everything(to)
    assert await index(lake, to, tool, library) == ["present", "present"]
    assert everything(to) == kept


async def test_an_index_that_does_not_count_for_the_narinfo_at_hand_is_replaced(lake: Lake, tmp_path: Path) -> None:
    member, other = lake.add("tree", TREE), lake.add("other", ODD_TREE)
    to = tmp_path / "indexes"
    await index(lake, to, member, other)
    file = to / f"{member.path.hash_part}.narfs"
    good = file.read_bytes()
    stranger = seal(kept_index(to, member), member.narinfo, [SecretKey.generate("stranger-1")])
    for bad in (b"", good[:-1], stranger, (to / f"{other.path.hash_part}.narfs").read_bytes()):
        file.write_bytes(bad)
        assert await index(lake, to, member, other) == ["sealed", "present"]
        assert kept_index(to, member) == unseal(good, member.narinfo, KEYS)


async def test_a_path_that_was_built_anew_gets_a_new_index(lake: Lake, tmp_path: Path) -> None:
    member = lake.add("tree", TREE, Recipe(content_addressed=False))
    await index(lake, tmp_path / "to", member)
    rebuilt = lake.add("tree", ODD_TREE, Recipe(content_addressed=False))
    again = replace(rebuilt, narinfo=replace(rebuilt.narinfo, path=member.path))
    assert await index(lake, tmp_path / "to", again) == ["sealed"]
    assert kept_index(tmp_path / "to", again).nar_hash == again.narinfo.nar_hash


def closed(directory: Path) -> set[str]:
    """Name the paths that a lake has, all of whose references it must have too."""
    narinfos = [NarInfo.parse(file.read_bytes()) for file in directory.glob("*.narinfo")]
    there = {narinfo.path for narinfo in narinfos}
    assert {reference for narinfo in narinfos for reference in narinfo.references} <= there
    return {path.path for path in there}


def chain(lake: Lake, length: int) -> list[Member]:
    """Make paths that each refer to all before."""
    members: list[Member] = []
    for number in range(length):
        tree: Tree = {b"n": File(b"%d" % number)}
        members.append(lake.add(f"link-{number}", tree, references=[member.path for member in members]))
    return members


async def copy_shard(
    lake: Lake, to: Path, shard: Shard, members: Sequence[Member], patience_s: float = 0.0
) -> SealReport:
    mine = [member for member in members if shard.has(member.path.hash_part)]
    async with opened(lake, to) as [source, target]:
        return await seal_lake(described(source, *mine), KEY, to=target, shard=shard, patience_s=patience_s)


async def test_shards_one_after_the_other_wait_for_each_other_and_a_last_run_completes(
    lake: Lake, tmp_path: Path
) -> None:
    members, to = chain(lake, 12), tmp_path / "to"
    first, second = await copy_shard(lake, to, Shard(1, 2), members), await copy_shard(lake, to, Shard(2, 2), members)
    assert {one.path for one in (*first.paths, *second.paths)} == {member.path.path for member in members}
    assert not first.complete
    waiting = [one for one in first.paths if one.status == "waiting"]
    assert all("which another shard has still to bring: run again" in (one.error or "") for one in waiting)
    assert len(closed(to)) == first.summary["sealed"] + second.summary["sealed"] < len(members)
    blobs = {file: file.stat().st_mtime_ns for file in (to / "nar").iterdir()}
    assert len(blobs) == len(members)
    last = await copy_shard(lake, to, WHOLE, members)
    assert last.complete
    assert last.summary["sealed"] == len(members) - first.summary["sealed"] - second.summary["sealed"]
    assert closed(to) == {member.path.path for member in members}
    assert {file: file.stat().st_mtime_ns for file in (to / "nar").iterdir()} == blobs
    assert [published(to, member)[1].frames is not None for member in members] == [True] * 12


async def test_shards_that_run_together_complete_each_other(lake: Lake, tmp_path: Path) -> None:
    members, to = chain(lake, 12), tmp_path / "to"
    reports: list[SealReport] = []

    async def run(number: int) -> None:
        reports.append(await copy_shard(lake, to, Shard(number, 3), members, patience_s=12.0))

    async with trio.open_nursery() as nursery:
        for number in (1, 2, 3):
            nursery.start_soon(run, number)
    assert [report.complete for report in reports] == [True] * 3
    assert closed(to) == {member.path.path for member in members}


async def test_a_reference_that_no_shard_may_have_is_a_failure_and_one_of_another_shard_is_waited_for(
    lake: Lake, tmp_path: Path
) -> None:
    library, *tools = chain(lake, 12)
    shard = next(Shard(number, 2) for number in (1, 2) if Shard(number, 2).has(library.path.hash_part))
    other = Shard(3 - shard.number, 2)
    for each, status in ((shard, "failed"), (other, "waiting")):
        tool = next(tool for tool in tools if each.has(tool.path.hash_part))
        alone = replace(tool, narinfo=replace(tool.narinfo, references=(library.path,)))
        report = await copy_shard(lake, tmp_path / "to", each, [alone])
        assert [one.status for one in report.paths] == [status]


async def test_what_an_interrupted_run_left_is_not_copied_again_if_it_is_whole(lake: Lake, tmp_path: Path) -> None:
    member, to = lake.add("tree", TREE), tmp_path / "to"
    await copy(lake, to, member)
    narinfo, _ = published(to, member)
    blob, narinfo_file = to / narinfo.url, to / f"{member.path.hash_part}.narinfo"
    narinfo_file.unlink()
    lake.blob_file(member).unlink()
    assert [one.status for one in await copy(lake, to, member)] == ["sealed"]
    assert published(to, member)[0] == narinfo
    narinfo_file.unlink()
    blob.unlink()
    [one] = await copy(lake, to, member)
    assert (one.status, "but not its NAR" in (one.error or "")) == ("failed", True)


async def test_a_blob_whose_upload_breaks_is_sent_again(lake: Lake, tmp_path: Path, nursery: trio.Nursery) -> None:
    (tmp_path / "to").mkdir()
    member = lake.add("tree", {b"noise": File(random.Random(5).randbytes(2_000_000))})  # noqa: S311 - any noise
    server = await nursery.start(serve, tmp_path / "to")
    server.on("/nar/*", Fault(status=503), times=1, method="PUT")
    async with opened(lake) as [source], open_lakes([server.url]) as targets:
        report = await seal_lake(described(source, member), KEY, to=targets.lakes[0])
    assert report.complete
    assert [asked.status for asked in server.asked("/nar/*", "PUT")] == [503, 201]
    published(tmp_path / "to", member)
