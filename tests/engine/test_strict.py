"""Strict: nothing of a path is shown before its NAR was compared with its NarHash, and nothing is fetched twice."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import Corrupt, FormatError, NarfsError, NotFound, Unavailable, Untrusted
from narfs.formats.compression import KNOWN
from narfs.formats.listing import Kind
from narfs.formats.signature import SecretKey
from narfs.formats.store_path import make_source_path
from narfs.offsets import NarOffset
from tests.engine.conftest import contents, read_tree
from tests.support.faults import Fault, Stall
from tests.support.lakes import Lake, Recipe
from tests.support.trees import ODD_TREE, File, Symlink, Tree

if TYPE_CHECKING:
    from narfs.engine.accessor import NarAccessor
    from tests.engine.conftest import House
    from tests.support.server import Server

NOISE = random.Random(1).randbytes(1_000_000)  # noqa: S311 - any noise will do
TREE: Tree = {
    b"bin": {b"tool": File(NOISE, executable=True)},
    b"odd": ODD_TREE,
    b"zeros": File(bytes(700_000)),
}


@pytest.mark.parametrize("compression", KNOWN)
async def test_a_tree_reads_as_it_was_pushed_and_again_without_the_lake(house: House, compression: str) -> None:
    member = house.lake.add("tree", TREE, Recipe(compression))
    async with house.open() as store:
        assert await read_tree(await store.find(member.path)) == TREE
    house.lake.blob_file(member).unlink()
    house.lake.narinfo_file(member.path).unlink()
    async with house.open() as store:
        assert await read_tree(await store.find(member.path)) == TREE
        assert store.statistics().counters.passes_begun == 0


@pytest.mark.parametrize("tree", [File(b"only a file", executable=True), Symlink(b"../elsewhere"), {}])
async def test_a_path_may_be_a_file_a_symlink_or_an_empty_directory(house: House, tree: Tree) -> None:
    member = house.lake.add("root", tree)
    async with house.open() as store:
        accessor = await store.find(member.path)
        root = await accessor.peek()
        assert await read_tree(accessor) == tree
        assert accessor.root == root


async def test_before_the_last_byte_was_checked_only_kind_and_size_of_the_root_are_known(
    house: House, server: Server
) -> None:
    member = house.lake.add("big", File(NOISE, executable=True), Recipe("none"))
    stall = Stall(after=len(member.nar) - 1)
    server.on("/nar/*", Fault(stall=stall))
    async with house.open(server.url) as store, trio.open_nursery() as readers:
        accessor = await store.find(member.path)
        readers.start_soon(contents, accessor)
        await stall.reached.wait()
        root = await accessor.peek()
        assert (root.kind, root.executable, root.size) == (Kind.REGULAR, True, len(NOISE))
        assert accessor.listing is None
        assert not accessor.verified
        assert accessor.read_nowait(NarOffset(0), 1) is None
        stall.released.set()
    assert len(server.asked("/nar/*")) == 1


@pytest.mark.parametrize("evicted", [False, True], ids=["at once", "after a restart without the NAR"])
async def test_a_root_node_that_was_first_claimed_wrongly_is_put_right_when_the_kernel_has_forgotten_the_claim(
    house: House, server: Server, mock_clock: trio.testing.MockClock, evicted: bool
) -> None:
    tree = File(bytes(100_000))
    member = house.lake.add("file", tree, Recipe("none"))
    server.on("/nar/*", Fault(flip_at=88), times=1)  # the lowest byte of the length
    async with house.open(server.url) as store:
        assert (await (await store.find(member.path)).peek()).size == 100_001
        if not evicted:
            await put_right(await store.find(member.path), tree, mock_clock)
    async with house.open(server.url) as store:
        if evicted:
            await put_right(await store.find(member.path), tree, mock_clock)
        root = (await store.find(member.path)).root
        assert root is not None
        assert root.size == 100_000


async def put_right(accessor: NarAccessor, tree: Tree, mock_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    mock_clock.autojump_threshold = 0.05
    assert await read_tree(accessor) == tree
    mock_clock.autojump_threshold = math.inf
    assert trio.current_time() - begun > 1


async def test_a_thousand_readers_of_one_path_are_one_pass(house: House, server: Server) -> None:
    member = house.lake.add("shared", TREE)
    async with house.open(server.url) as store:

        async def reader() -> None:
            assert await contents(await store.find(member.path), b"bin", b"tool") == NOISE

        async with trio.open_nursery() as readers:
            for _ in range(1000):
                readers.start_soon(reader)
        assert store.statistics().counters.passes_begun == 1
    assert [len(server.asked(pattern)) for pattern in ("/*.narinfo", "/nar/*")] == [1, 1]


async def test_a_reader_that_goes_away_leaves_the_pass_to_the_others(house: House, server: Server) -> None:
    member = house.lake.add("tree", TREE)
    stall = Stall(after=1000)
    server.on("/nar/*", Fault(stall=stall))
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        async with trio.open_nursery() as readers:
            readers.start_soon(contents, accessor, b"zeros")
            await stall.reached.wait()
            readers.cancel_scope.cancel()
        stall.released.set()
        assert await read_tree(accessor) == TREE
    assert len(server.asked("/nar/*")) == 1


@pytest.mark.parametrize("compression", KNOWN)
@pytest.mark.parametrize("harm", ["flip", "cut", "swap"])
async def test_a_lake_that_lies_is_never_believed(house: House, compression: str, harm: str) -> None:
    member = house.lake.add("victim", TREE, Recipe(compression))
    blob = bytearray(house.lake.blob_file(member).read_bytes())
    if harm == "flip":
        blob[len(blob) // 2] ^= 0x10
    elif harm == "cut":
        del blob[len(blob) // 2 :]
    else:
        other = house.lake.add("other", {b"zeros": File(bytes(800_000))}, Recipe(compression))
        blob = bytearray(house.lake.blob_file(other).read_bytes())
    house.lake.blob_file(member).write_bytes(blob)
    async with house.open() as store:
        accessor = await store.find(member.path)
        with pytest.raises((Corrupt, FormatError)):
            await read_tree(accessor)
        assert accessor.listing is None
        counters = store.statistics().counters
        assert (counters.passes_begun, counters.passes_failed, counters.corrupt) == (1, 1, 1)


async def test_what_failed_is_not_tried_again_at_once_and_tried_again_later(
    house: House, mock_clock: trio.testing.MockClock
) -> None:
    member = house.lake.add("victim", TREE)
    blob = house.lake.blob_file(member).read_bytes()
    house.lake.blob_file(member).write_bytes(blob[:-1])
    async with house.open() as store:
        accessor = await store.find(member.path)
        for _ in range(5):
            with pytest.raises(NarfsError):
                await read_tree(accessor)
        assert store.statistics().counters.passes_begun == 1
        house.lake.blob_file(member).write_bytes(blob)
        mock_clock.jump(1.5)
        assert await read_tree(accessor) == TREE


async def test_another_lake_with_the_same_nar_takes_over(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    member = house.lake.add("twice", TREE)
    other = Lake(tmp_path_factory.mktemp("other"), priority=60)
    other.secret_key = house.lake.secret_key
    other.add("twice", TREE, Recipe("xz"))
    house.lake.blob_file(member).write_bytes(b"")
    async with house.open(house.lake.url, other.url) as store:
        accessor = await store.find(member.path)
        assert await read_tree(accessor) == TREE
        assert store.statistics().counters.passes_begun == 1


async def test_a_dead_lake_is_trouble_and_not_absence(house: House, server: Server) -> None:
    member = house.lake.add("tree", TREE)
    server.on("/*", Fault(status=500))
    async with house.open(server.url) as store:
        with pytest.raises(Unavailable):
            await store.find(member.path)


@pytest.mark.parametrize("cached", [True, False], ids=["when the cache has the NAR", "when nothing is cached"])
async def test_a_stranger_s_nar_size_is_not_believed_and_harms_nobody_with_the_same_nar(
    house: House, cached: bool
) -> None:
    member = house.lake.add("honest", TREE)
    path = make_source_path("another-name", member.narinfo.nar_hash)
    lie = house.lake.add("lie", {}).narinfo.nar_size
    house.lake.put(replace(member.narinfo, path=path, nar_size=lie, signatures=()))
    if cached:
        async with house.open() as store:
            await read_tree(await store.find(member.path))
    async with house.open() as store:
        liar = await store.find(path)
        with pytest.raises((Corrupt, FormatError)):
            await read_tree(liar)
        assert liar.listing is None, "inodes were set aside for a NAR of that size"
        assert await read_tree(await store.find(member.path)) == TREE


class TestTrust:
    """A narinfo counts if its lake, a key, or its own content address vouches for the NarHash."""

    STRANGER = str(SecretKey.generate("stranger-1").public)
    BUILT = Recipe(content_addressed=False)

    async def test_signed_by_a_trusted_key(self, house: House) -> None:
        member = house.lake.add("built", TREE, self.BUILT)
        async with house.open() as store:
            assert (await store.describe(member.path)).narinfo == member.narinfo

    async def test_signed_by_a_stranger(self, house: House) -> None:
        member = house.lake.add("built", TREE, self.BUILT)
        async with house.open(keys=self.STRANGER) as store:
            with pytest.raises(Untrusted, match=r"lake"):
                await store.describe(member.path)
            assert store.statistics().counters.untrusted == 1

    async def test_any_signature_will_do_in_a_trusted_lake_but_the_nar_hash_still_counts(self, house: House) -> None:
        member = house.lake.add("built", TREE, Recipe(content_addressed=False, signed=False))
        async with house.open(f"{house.lake.url}?trusted=1", keys=self.STRANGER) as store:
            accessor = await store.find(member.path)
            house.lake.blob_file(member).write_bytes(b"something else")
            with pytest.raises(FormatError):
                await read_tree(accessor)

    async def test_a_content_address_needs_no_signature(self, house: House) -> None:
        member = house.lake.add("source", TREE, Recipe(signed=False))
        async with house.open(keys=self.STRANGER) as store:
            assert await read_tree(await store.find(member.path)) == TREE

    async def test_a_claimed_content_address_must_be_the_paths_own(self, house: House) -> None:
        member = house.lake.add("source", TREE, Recipe(content_addressed=False, signed=False))
        ca = house.lake.add("decoy", TREE, Recipe()).narinfo.ca
        house.lake.put(replace(member.narinfo, ca=ca))
        async with house.open(keys=self.STRANGER) as store:
            with pytest.raises(Untrusted):
                await store.describe(member.path)

    async def test_keys_are_asked_again_after_a_restart(self, house: House) -> None:
        member = house.lake.add("built", TREE, self.BUILT)
        async with house.open() as store:
            await read_tree(await store.find(member.path))
        async with house.open(keys=self.STRANGER) as store:
            with pytest.raises(Untrusted):
                await store.describe(member.path)

    async def test_a_hash_under_another_name_is_absent(self, house: House) -> None:
        member = house.lake.add("name", TREE)
        wrong = type(member.path).parse(f"{member.path.hash_part}-another")
        async with house.open() as store:
            with pytest.raises(NotFound, match="under the name"):
                await store.describe(wrong)


@pytest.mark.parametrize("size", [1_000, 400_000])
@pytest.mark.parametrize("compression", ["xz", "zstd"])
async def test_what_a_peek_fetched_is_not_fetched_again(
    house: House, server: Server, compression: str, size: int
) -> None:
    data = bytes(byte & 0x7F for byte in NOISE[:size])  # a block of zstd is packed, and still more than 64 KiB
    member = house.lake.add("tree", {b"data": File(data)}, Recipe(compression))
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        await accessor.peek()
        assert await contents(accessor, b"data") == data
    blob_bytes = house.lake.blob_file(member).stat().st_size
    assert sum(asked.sent_bytes for asked in server.asked("/nar/*")) == blob_bytes


async def test_a_blob_that_changed_since_it_was_peeked_at_is_read_anew(house: House, server: Server) -> None:
    member = house.lake.add("tree", {b"data": File(NOISE[:400_000])}, Recipe("none"))
    server.on("/nar/*", Fault(flip_at=50_000), times=1)
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        await accessor.peek()
        assert await contents(accessor, b"data") == NOISE[:400_000]


async def test_a_peek_that_failed_is_not_tried_again_at_once(
    house: House, server: Server, mock_clock: trio.testing.MockClock
) -> None:
    member = house.lake.add("tree", TREE)
    server.on("/nar/*", Fault(status=404))
    async with house.open(server.url) as store:
        accessor = await store.find(member.path)
        for _ in range(5):
            with pytest.raises(Unavailable):
                await accessor.peek()
        assert store.statistics().counters.peeks == 1
        server.behave()
        mock_clock.jump(1.5)
        assert (await accessor.peek()).kind is Kind.DIRECTORY
