"""Sealed paths: read in parts, each checked; and whatever a lake does to its objects, never a wrong byte."""

from __future__ import annotations

import hashlib
import random
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.cache.cached_nar import CachedNar
from narfs.engine import keeping
from narfs.errors import FormatError, NarfsError
from narfs.formats.frames import FrameTable
from narfs.formats.narinfo import NarInfo
from narfs.formats.seal import seal
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.offsets import NarOffset
from tests.engine.conftest import contents, read_tree
from tests.support.faults import Fault
from tests.support.lakes import Lake, Member, Recipe
from tests.support.sealing import add_sealed, index_file, seal_tree
from tests.support.trees import ODD_TREE, File, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.engine.flights import Flight
    from narfs.engine.ranges import Chunks
    from tests.engine.conftest import House
    from tests.support.server import Server

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
NOISE = random.Random(5).randbytes(2_000_000)  # noqa: S311 - any noise will do
TREE: Tree = {
    b"big": File(NOISE),
    b"odd": ODD_TREE,
    b"small": {b"%02d" % number: File(NOISE[number : 50 * number]) for number in range(40)},
}


@pytest.fixture
def member(house: House) -> Member:
    return add_sealed(house.lake, "tree", TREE, KEY)


async def test_the_tree_takes_one_small_object_and_a_read_its_frames(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.peek()
        assert [await accessor.name(child) for child in await accessor.children(0)] == sorted(TREE)  # type: ignore[arg-type]  # a dict
        assert not server.asked("/nar/*")
        [asked] = server.asked("/*.narfs")
        assert asked.sent_bytes < 0.01 * len(member.nar)
        assert await contents(accessor, b"small", b"20") == NOISE[20:1000]
        big = await accessor.child(0, b"big")
        assert big is not None
        start = NarOffset((await accessor.node(big)).nar_offset + 1_000_000)
        assert await accessor.read(start, 4096) == NOISE[1_000_000:1_004_096]
        assert [one.status for one in server.asked("/nar/*")] == [206, 206]
        assert sum(one.sent_bytes for one in server.asked("/nar/*")) < 3 * 65_536
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.passes_begun == 0
        assert store.statistics().counters.indexes_taken == 1


async def test_the_second_miss_in_a_large_file_brings_the_rest_of_it(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        big = await accessor.child(0, b"big")
        assert big is not None
        start = (await accessor.node(big)).nar_offset
        await accessor.read(NarOffset(start + 1_000_000), 4096)
        assert len(server.asked("/nar/*")) == 1
        await accessor.read(NarOffset(start), 4096)
        assert await contents(accessor, b"big") == NOISE
        asked = server.asked("/nar/*")
        assert 2 < len(asked) < 6
        assert sum(one.sent_bytes for one in asked) < 2_000_000 + 3 * 65_536
        assert await read_tree(accessor) == TREE


async def test_the_rest_of_a_file_is_fetched_once_also_if_the_cache_takes_nothing(
    house: House, server: Server, member: Member
) -> None:
    async with house.open(server.url, index_keys=KEYS, budget_bytes=10_000) as store:
        accessor = await store.find(member.path)
        big = await accessor.child(0, b"big")
        assert big is not None
        start = (await accessor.node(big)).nar_offset
        for offset in range(0, 2_000_000, 65_536):
            length = min(65_536, 2_000_000 - offset)
            assert await accessor.read(NarOffset(start + offset), length) == NOISE[offset : offset + length]
        assert sum(one.sent_bytes for one in server.asked("/nar/*")) < 2.1 * 2_000_000


async def test_of_a_file_of_more_than_8_mib_only_what_is_asked_for_is_fetched(house: House, server: Server) -> None:
    member = add_sealed(house.lake, "large", {b"large": File(NOISE * 5)}, KEY)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        for start in range(0, 8_000_000, 1_000_000):
            await accessor.read(NarOffset(start + 1000), 4096)
        assert sum(one.sent_bytes for one in server.asked("/nar/*")) < 8 * 2 * 65_600


async def test_a_cache_disk_that_hangs_does_not_let_what_was_fetched_pile_up(
    house: House, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_cached: CachedNar, _chunks: Chunks) -> None:
        await trio.sleep_forever()

    member = add_sealed(house.lake, "large", {b"large": File(NOISE * 5)}, KEY)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        await accessor.read(NarOffset(1000), 4096)
        with trio.fail_after(60):
            while not [*house.cache_directory.glob("nar/*/*.index")]:  # noqa: ASYNC110 - it is kept beside readers
                await trio.sleep(0.01)
        monkeypatch.setattr(CachedNar, "write_all", hang)
        monkeypatch.setattr(keeping, "_ROOM_S", 0.001, raising=False)
        monkeypatch.setattr(keeping, "_KEEPING_S", 1.0)
        held: set[Flight[Chunks]] = set()
        for start in range(0, 9_000_000, 100_000):
            await accessor.read(NarOffset(start), 4096)
            assert accessor._contents is not None
            held = {*accessor._contents._fetcher._flights.values()}
        assert 0 < len(held) <= 16


async def test_a_bug_while_something_is_kept_does_not_end_the_engine(
    house: House, server: Server, member: Member, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_cached: CachedNar, _chunks: Chunks) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a bug")

    monkeypatch.setattr(CachedNar, "write_all", fail)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        assert await read_tree(accessor) == TREE
        with trio.fail_after(60):
            while "a bug ended a piece of work" not in caplog.text:  # noqa: ASYNC110 - beside readers, too
                await trio.sleep(0.01)
        assert await read_tree(accessor) == TREE


async def test_what_was_fetched_is_there_after_a_restart(house: House, server: Server, member: Member) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        assert await contents(await store.find(member.path), b"small", b"20") == NOISE[20:1000]
    server.log.clear()
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        assert await contents(accessor, b"small", b"20") == NOISE[20:1000]
        assert not server.asked("/*.narfs")
        assert not server.asked("/nar/*")
        assert await read_tree(accessor) == TREE


async def test_everything_is_served_without_a_cache_as_well(house: House, member: Member) -> None:
    async with house.open(cached=False, index_keys=KEYS) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.passes_begun == 0


async def test_parts_of_a_sealed_path_are_evicted_and_come_again(house: House, member: Member) -> None:
    other = add_sealed(house.lake, "other", {b"noise": File(NOISE[::-1])}, KEY)
    async with house.open(budget_bytes=3_000_000, index_keys=KEYS) as store:
        for _ in range(2):
            assert await read_tree(await store.find(member.path)) == TREE
            assert await contents(await store.find(other.path), b"noise") == NOISE[::-1]
        assert store.statistics().counters.passes_begun == 0


async def test_nothing_is_asked_for_where_no_narinfo_tells_of_an_index_or_no_key_counts(
    house: House, server: Server, member: Member
) -> None:
    plain = house.lake.add("plain", {b"a": File(b"b")})
    async with house.open(server.url, index_keys=KEYS) as store:
        await read_tree(await store.find(plain.path))
    async with house.open(server.url) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.passes_verified == 1
    assert not server.asked("/*.narfs")


async def test_an_index_whose_key_is_no_longer_trusted_counts_no_more(house: House, member: Member) -> None:
    async with house.open(index_keys=KEYS) as store:
        assert await contents(await store.find(member.path), b"small", b"20") == NOISE[20:1000]
    async with house.open(index_keys=PublicKeys((SecretKey.generate("index.test-1").public,))) as store:
        accessor = await store.find(member.path)
        assert accessor.listing is None
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.indexes_refused == 1
        assert store.statistics().counters.passes_verified == 1
    async with house.open() as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.passes_begun == 0


async def test_a_refused_index_is_told_once_and_the_whole_nar_is_read(
    house: House, member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    other = add_sealed(house.lake, "other", TREE, KEY)
    index_file(house.lake, member.narinfo).write_bytes(index_file(house.lake, other.narinfo).read_bytes())
    async with house.open(index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.indexes_refused == 1
        assert store.statistics().counters.passes_verified == 1
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{other.path.path}' and not {member.path.path}" in warning


async def test_an_index_that_cannot_be_reached_does_not_stop_the_path(
    house: House, server: Server, member: Member
) -> None:
    server.on("/*.narfs", Fault(status=503))
    async with house.open(server.url, index_keys=KEYS) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.passes_verified == 1


async def test_a_lake_in_trouble_is_asked_for_the_index_again_later(
    house: House, server: Server, member: Member, mock_clock: trio.testing.MockClock
) -> None:
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        server.on("/*", Fault(status=404))
        server.on("/nix-cache-info", Fault(status=404))
        with pytest.raises(NarfsError):
            await accessor.children(0)
        server.behave()
        mock_clock.jump(2)
        assert await read_tree(accessor) == TREE


async def test_an_index_in_which_a_bit_flipped_on_its_way_is_asked_for_once_more(
    house: House, server: Server, member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    server.on("/*.narfs", Fault(flip_at=10), times=1)
    async with house.open(server.url, index_keys=KEYS) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.indexes_taken == 1
        assert store.statistics().counters.passes_begun == 0
    assert caplog.records == []


async def test_a_wrong_frame_is_refused_and_the_whole_nar_read_instead(
    house: House, server: Server, member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    server.on("/nar/*", Fault(flip_at=1_000_000), times=2)
    async with house.open(server.url, index_keys=KEYS) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.corrupt == 2
        assert store.statistics().counters.passes_verified == 1
    assert sum(record.levelname == "WARNING" for record in caplog.records) == 1


async def test_a_bit_that_flips_on_its_way_costs_one_more_request(
    house: House, server: Server, member: Member, caplog: pytest.LogCaptureFixture
) -> None:
    server.on("/nar/*", Fault(flip_at=1_000_000), times=1)
    async with house.open(server.url, index_keys=KEYS) as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.corrupt == 1
        assert store.statistics().counters.passes_begun == 0
    assert caplog.records == []


async def test_a_bad_frame_keeps_nothing_else_of_its_nar_away(
    house: House, server: Server, member: Member, mock_clock: trio.testing.MockClock
) -> None:
    blob = house.lake.blob_file(member)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        with pytest.raises(FormatError):
            await accessor.read(NarOffset(0), len(member.nar))
        began = trio.current_time()
        bad = 0
        for start in range(0, len(member.nar), 4096):
            length = min(4096, len(member.nar) - start)
            try:
                assert await accessor.read(NarOffset(start), length) == member.nar[start : start + length]
            except FormatError:
                bad += length
        assert 0 < bad <= 2 * 65_536
        assert trio.current_time() == began
        assert store.statistics().counters.passes_begun == 1
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
        mock_clock.jump(2)
        assert await accessor.read(NarOffset(0), len(member.nar)) == member.nar


async def test_a_solid_blob_shows_its_tree_from_the_index_and_is_read_in_one_pass(house: House, server: Server) -> None:
    member = house.lake.add("solid", TREE, Recipe("xz"))
    index = replace(seal_tree("solid", TREE, frame_bytes=65_536).index, frames=None)
    narinfo = member.narinfo.with_index(f"{member.path.hash_part}.narfs")
    index_file(house.lake, narinfo).write_bytes(seal(index, narinfo, [KEY]))
    house.lake.put(narinfo)
    async with house.open(server.url, index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        assert len(await accessor.children(0)) == len(TREE)  # type: ignore[arg-type]  # a dict
        assert not server.asked("/nar/*")
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.passes_verified == 1


async def test_frames_of_another_blob_are_not_used(house: House, member: Member) -> None:
    again = house.lake.add("tree", TREE, Recipe("zstd", frame_bytes=100_000))
    house.lake.put(again.narinfo.with_index(member.narinfo.index_name or ""))
    async with house.open(index_keys=KEYS) as store:
        accessor = await store.find(member.path)
        assert accessor.listing is None
        assert await accessor.children(0)
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.indexes_taken == 1
        assert store.statistics().counters.passes_verified == 1


class TestALyingLake:
    """Every object flipped, cut, swapped with its neighbour's, and played again from an earlier time."""

    @pytest.fixture(params=["index of its own", "index store", "long index", "long index in a store"])
    def indexes(self, house: House, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Lake | None:
        """The index store, if there is one."""
        if "long" in request.param:  # then the head comes with two requests, and pages by themselves
            monkeypatch.setattr("narfs.engine.sealed.BEGINNING_BYTES", 50)
        return Lake(house.lake.directory.with_name("indexes")) if "store" in request.param else None

    @pytest.fixture
    def member(self, house: House, indexes: Lake | None) -> Member:
        return add_sealed(house.lake, "tree", TREE, KEY, index_store=indexes)

    @pytest.fixture
    def objects(self, house: House, member: Member, indexes: Lake | None) -> dict[str, tuple[Path, bytes]]:
        """Give each object of the path, and bytes to put in its place."""
        lake = house.lake
        other = add_sealed(lake, "tree", {**TREE, b"odd": {}}, KEY, index_store=indexes)  # type: ignore[dict-item]  # a dict
        index, other_index = (index_file(indexes or lake, each.narinfo) for each in (member, other))
        return {
            "blob": (lake.blob_file(member), lake.blob_file(other).read_bytes()),
            "index": (index, other_index.read_bytes()),
            "narinfo": (lake.narinfo_file(member.path), lake.narinfo_file(other.path).read_bytes()),
        }

    async def never_a_wrong_byte(self, house: House, member: Member, indexes: Lake | None) -> bool:
        """Read everything; say whether it was readable."""
        stores = [] if indexes is None else [indexes.url]
        async with house.open(cached=False, index_keys=KEYS, index_stores=stores) as store:
            try:
                accessor = await store.find(member.path)
                await accessor.children(0)
            except NarfsError:
                return False
            readable = True
            for start in range(0, len(member.nar), 200_000):
                length = min(200_000, len(member.nar) - start)
                try:
                    assert await accessor.read(NarOffset(start), length) == member.nar[start : start + length]
                except NarfsError:
                    readable = False
            assert accessor.listing is not None
            assert accessor.listing == seal_tree("tree", TREE, frame_bytes=65_536).index.listing
            return readable

    @pytest.mark.parametrize("name", ["blob", "index", "narinfo"])
    async def test_swapped(
        self,
        house: House,
        member: Member,
        indexes: Lake | None,
        objects: dict[str, tuple[Path, bytes]],
        name: str,
    ) -> None:
        file, other = objects[name]
        file.write_bytes(other)
        assert await self.never_a_wrong_byte(house, member, indexes) == (name == "index")

    @pytest.mark.parametrize("name", ["blob", "index", "narinfo"])
    async def test_cut(
        self,
        house: House,
        member: Member,
        indexes: Lake | None,
        objects: dict[str, tuple[Path, bytes]],
        name: str,
    ) -> None:
        file, _ = objects[name]
        whole = file.read_bytes()
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            readable = await self.never_a_wrong_byte(house, member, indexes)
            assert readable or name != "index"

    @pytest.mark.parametrize("name", ["blob", "index", "narinfo"])
    async def test_flipped(
        self,
        house: House,
        member: Member,
        indexes: Lake | None,
        objects: dict[str, tuple[Path, bytes]],
        name: str,
    ) -> None:
        file, _ = objects[name]
        whole = file.read_bytes()
        for at in (0, 9, 13, *(len(whole) * eighth // 8 for eighth in range(1, 8)), len(whole) - 1):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            readable = await self.never_a_wrong_byte(house, member, indexes)
            assert readable or name != "index"

    async def test_played_again_from_before_the_blob_was_recompressed(
        self, house: House, member: Member, indexes: Lake | None
    ) -> None:
        """The narinfo, the index and the blob of then, each beside the others of now."""
        lake = house.lake
        files = (lake.narinfo_file(member.path), index_file(indexes or lake, member.narinfo))
        then = {file: file.read_bytes() for file in files}
        add_sealed(lake, "tree", TREE, KEY, frame_bytes=100_000, index_store=indexes)
        for file, data in then.items():
            now = file.read_bytes()
            file.write_bytes(data)
            assert await self.never_a_wrong_byte(house, member, indexes)
            file.write_bytes(now)
        blob_now = lake.directory / NarInfo.parse(lake.narinfo_file(member.path).read_bytes()).url
        blob_now.write_bytes(lake.blob_file(member).read_bytes())
        assert await self.never_a_wrong_byte(house, member, indexes)

    async def test_a_frame_table_that_a_trusted_key_signed_by_mistake(
        self, house: House, member: Member, indexes: Lake | None
    ) -> None:
        sealed = seal_tree("tree", TREE, frame_bytes=64 * 1024)
        frames = sealed.index.frames
        assert frames is not None
        moved = array("Q", [0, *(bound + 1 for bound in frames.blob_bounds[1:-1]), frames.blob_bounds[-1]])
        wrong = replace(sealed.index, frames=FrameTable("zstd", frames.blob_size, moved, frames.nar_bounds))
        index_file(indexes or house.lake, member.narinfo).write_bytes(seal(wrong, member.narinfo, [KEY]))
        assert await self.never_a_wrong_byte(house, member, indexes)

    async def test_digests_that_a_trusted_key_signed_by_mistake(
        self, house: House, member: Member, indexes: Lake | None
    ) -> None:
        sealed = seal_tree("tree", TREE, frame_bytes=64 * 1024)
        digests = hashlib.sha256(b"wrong").digest() * sealed.index.grid.count
        wrong = seal(replace(sealed.index, digests=digests), member.narinfo, [KEY])
        index_file(indexes or house.lake, member.narinfo).write_bytes(wrong)
        stores = [] if indexes is None else [indexes.url]
        async with house.open(index_keys=KEYS, index_stores=stores) as store:
            assert await read_tree(await store.find(member.path)) == TREE
