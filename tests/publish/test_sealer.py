"""Sealing lakes that exist, in place and into another lake."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from narfs.engine.means import Described
from narfs.formats.narinfo import NarInfo
from narfs.formats.seal import unseal
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.lake.upstreams import open_lakes
from narfs.publish.sealer import SealedPath, seal_lake
from tests.support.lakes import Lake, Member, Recipe
from tests.support.sealing import index_file
from tests.support.trees import ODD_TREE, File, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
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


async def seal_in_place(lake: Lake, *members: Member) -> list[SealedPath]:
    async with opened(lake) as [source]:
        return await seal_lake([Described(source, member.narinfo) for member in members], KEY)


async def copy(lake: Lake, to: Path, *members: Member) -> list[SealedPath]:
    async with opened(lake, to) as [source, target]:
        return await seal_lake([Described(source, member.narinfo) for member in members], KEY, to=target)


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
