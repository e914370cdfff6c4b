"""What a Report counts: what was read, what was fetched for it, and what of that nobody read."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.daemon.reports.report import PathReport, Report, report
from narfs.daemon.reports.waste import wasted_bytes
from narfs.formats.frames import FrameTable
from narfs.formats.index import NarIndex
from narfs.formats.listing import Kind
from narfs.mount.scene import Scene
from narfs.mount.view import View
from narfs.offsets import ChunkGrid, NarOffset, NarSpan
from tests.mount.model import MemoryAccessor, path
from tests.support.lakes import Recipe
from tests.support.listings import listing_of
from tests.support.sealing import add_sealed
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.lake.account import Account
    from narfs.mount.view import Attachment
    from tests.daemon.conftest import Place
    from tests.support.lakes import Member

KB = 1000
TREE: Tree = {b"read": File(bytes(range(256)) * 1000), b"\xff\n": File(b"x" * 300 * KB), b"link": Symlink(b"read")}
OTHER: Tree = {b"other": File(b"y" * 200 * KB)}
EMPTY: Tree = {b"dir": {b"link": Symlink(b"x")}, b"nothing": File()}


async def read(scene: Scene, account: Account, attachment: Attachment, what: tuple[bytes, int, int]) -> None:
    """Read as a mount does."""
    name, start, length = what
    await account.pays(attachment.accessor.settle)
    listing = attachment.accessor.listing
    assert listing is not None
    found = listing.find(name)
    assert found is not None
    node = listing.node(found)
    assert node.kind is Kind.REGULAR
    of_path = scene.reads.of(attachment)
    of_path.later(of_path.read, node.id, node.size, start, length)
    with of_path.waiting(node.id, start, length):
        await account.pays(attachment.accessor.read, NarOffset(node.nar_offset + start), length)


async def told_of(place: Place, members: Sequence[Member], *reads: tuple[bytes, int, int], keys: str = "") -> Report:
    """Read from the first of some paths and report."""
    async with place.session(place.config(*place.common.store, index_keys=keys)) as session:
        account = place.household.account("view", place.common)
        accessors = [(each.path, await account.pays(session.store.find, each.path)) for each in members]
        scene = Scene(View.of(accessors))
        first = scene.view.named(members[0].path.base_name.encode())
        assert first is not None
        for what in reads:
            await read(scene, account, first, what)
        told = await report("view", scene, account)
        assert told.fetched_bytes == account.received_bytes
        assert told.wasted_bytes == sum(each.wasted_bytes for each in told.paths)
        return told


def of(told: Report, member: Member) -> PathReport:
    return next(each for each in told.paths if each.path == member.path.path)


async def test_a_pass_over_a_solid_nar_is_wasted_by_what_was_not_read(place: Place) -> None:
    member, other = place.lake.add("tree", TREE, Recipe("xz")), place.lake.add("other", OTHER)
    told = await told_of(place, [member, other], (b"read", 0, 100), (b"read", 50, 100))
    mine = of(told, member)
    blob_bytes = place.lake.blob_file(member).stat().st_size
    assert (mine.fetched_bytes, mine.fetched_requests) == (blob_bytes, 1)
    share = 16 * 1024 / mine.nar_bytes
    assert mine.wasted_bytes == pytest.approx(blob_bytes * (1 - share), abs=1)
    assert (mine.state, mine.files, mine.opened_files, mine.read_bytes) == ("read", 2, 1, 200)
    assert mine.distinct_bytes == 16 * 1024
    assert of(told, other).state == "unread"
    assert (of(told, other).fetched_bytes, of(told, other).files) == (0, None)
    assert (told.read_paths, told.unread_paths, told.unread_nar_bytes) == (1, 1, len(other.nar))


async def test_of_a_sealed_nar_only_what_came_with_a_frame_is_wasted(place: Place) -> None:
    key = place.lake.secret_key
    member, other = add_sealed(place.lake, "tree", TREE, key), add_sealed(place.lake, "other", OTHER, key)
    told = await told_of(place, [member, other], (b"read", 0, 70 * KB), keys=str(key.public))
    mine = of(told, member)
    assert 0 < mine.fetched_bytes < place.lake.blob_file(member).stat().st_size
    assert mine.wasted_bytes == 0  # whole frames of what was read
    assert mine.waits == 1
    assert (of(told, other).state, of(told, other).fetched_bytes) == ("unread", 0)


async def test_a_miss_names_its_file(place: Place) -> None:
    member = place.lake.add("tree", TREE, Recipe("none"))
    async with place.session(place.common) as session:
        account = place.household.account("view", place.common)
        scene = Scene(View.of([(member.path, await account.pays(session.store.find, member.path))]))
        (attachment,) = scene.view.attachments
        await account.pays(attachment.accessor.settle)
        listing = attachment.accessor.listing
        assert listing is not None
        scene.reads.missed(attachment, listing.find(b"\xff\n"), range(5, 10), began=scene.reads.began + 1, waited_s=2)
        scene.reads.missed(attachment, None, range(0), began=scene.reads.began, waited_s=0.5)
        told = await report("view", scene, account)
    assert [(miss.at_s, miss.waited_s, miss.file, miss.start, miss.length) for miss in told.misses] == [
        (1.0, 2, "\udcff\n", 5, 5),
        (0.0, 0.5, None, 0, 0),
    ]


async def test_paths_of_which_nothing_can_be_read_are_not_called_unread() -> None:
    members = [(path(name), MemoryAccessor(tree)) for name, tree in (("a", TREE), ("b", TREE), ("c", EMPTY))]
    told = await report("view", Scene(View.of(members)), None)
    states = {each.path.rpartition("-")[2]: (each.state, each.same_nar_as is not None) for each in told.paths}
    assert states.pop("c") == ("empty", False)
    assert sorted(states.values()) == [("shared", True), ("unread", False)]
    assert told.unread_paths == 1


@given(st.data())
def test_wasted_is_what_lies_in_no_part_that_was_read(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=20))
    blob, nar = array("Q", [7]), array("Q", [0])
    for blob_length, nar_length in lengths:
        blob.append(blob[-1] + blob_length)
        nar.append(nar[-1] + nar_length)
    index = replace(INDEX, nar_size=nar[-1], grid=ChunkGrid(nar[-1], 1 << 20), frames=None)
    index = replace(index, frames=FrameTable("zstd", blob[-1] + 9, blob, nar), digests=bytes(32))
    spans = st.tuples(st.integers(0, nar[-1] - 1), st.integers(1, 30))
    read = [NarSpan(NarOffset(at), NarOffset(min(at + length, nar[-1]))) for at, length in data.draw(st.lists(spans))]
    places = st.tuples(st.integers(0, blob[-1] + 8), st.integers(1, 60))
    fetched = [(at, min(at + length, blob[-1] + 9)) for at, length in data.draw(st.lists(places, max_size=5))]
    used = [
        any(span.start < nar[number + 1] and nar[number] < span.end for span in read) for number in range(len(lengths))
    ]
    expected = sum(
        not used[number]
        for start, end in fetched
        for number in range(len(lengths))
        for _ in range(max(start, blob[number]), min(end, blob[number + 1]))
    )
    assert wasted_bytes(index, "zstd", fetched, read) == expected


INDEX = NarIndex(bytes(32), 1 << 20, listing_of({}), ChunkGrid(1 << 20, 1 << 20), bytes(32), None)


@pytest.mark.parametrize("cuts", [None, array("Q", [0, 40, 100, 140])])
def test_of_a_blob_that_is_not_compressed_the_parts_are_chunks(cuts: array[int] | None) -> None:
    grid = ChunkGrid(200, 60 if cuts else 50, cuts)
    index = replace(INDEX, nar_size=200, grid=grid, digests=bytes(32 * grid.count))
    read = [NarSpan(NarOffset(100), NarOffset(101))]
    assert wasted_bytes(index, "none", [(0, 100)], read) == 100
    assert wasted_bytes(index, "none", [(90, 160)], read) == (30 if cuts else 20)
