"""A profile is brought for one View, in its order, and never more than it is worth."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from narfs.engine.ahead import replay as module
from narfs.engine.ahead.bringing import Allowance
from narfs.engine.ahead.matching import FoundFile, Named
from narfs.engine.ahead.replay import Replay
from narfs.formats.profile import BLOCK_BYTES, Place, Profile, Read
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.offsets import NarOffset
from tests.support.faults import Fault
from tests.support.lakes import Member, Recipe
from tests.support.sealing import add_sealed
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from narfs.engine.accessor import NarAccessor
    from narfs.engine.store import Store
    from tests.engine.conftest import House
    from tests.support.server import Server

KEY = SecretKey.generate("index.test-1")
KEYS = PublicKeys((KEY.public,))
NOISE = random.Random(7).randbytes(2_000_000)  # noqa: S311 - any noise will do
FILES = 80
TREE: Tree = {
    b"lib": {b"%02d" % each: File(NOISE[each * 7 : each * 7 + 70_000]) for each in range(FILES)},
    b"big": File(NOISE),
    b"link": Symlink(b"big"),
}


@pytest.fixture
def member(house: House) -> Member:
    return add_sealed(house.lake, "app-1.0", TREE, KEY)


@pytest.fixture
async def store(house: House, server: Server) -> AsyncIterator[Store]:
    async with house.open(server.url, index_keys=KEYS) as opened:
        yield opened


def reads(places: Iterable[tuple[str, bytes]], last: int = 0) -> Profile:
    return Profile(tuple(Read(0, Place(package, 0, file), 0, last) for package, file in places))


def libraries(count: int = FILES) -> Profile:
    return reads(("app-1.0", b"lib/%02d" % each) for each in range(count))


class Program:
    """What programs have read: files by path, each once."""

    def __init__(self, accessor: NarAccessor) -> None:
        self.wanted = True
        self._accessor = accessor
        self._unseen: list[int] = []

    async def reads(self, *paths: bytes) -> None:
        for path in paths:
            node = 0
            for name in path.split(b"/"):
                child = await self._accessor.child(node, name)
                assert child is not None
                node = child
            self._unseen.append(node)

    def new_reads(self) -> Sequence[tuple[NarAccessor, int, int, bool]]:
        unseen, self._unseen = self._unseen, []
        return [(self._accessor, node, 0, self.wanted) for node in unseen]


def sent(server: Server) -> int:
    return sum(one.sent_bytes for one in server.asked("/nar/*"))


async def test_what_it_names_is_here_before_it_is_read(store: Store, server: Server, member: Member) -> None:
    accessor = await store.find(member.path)
    assert await Replay(libraries(), [(member.path, accessor)], list).run(Allowance()) == "done"
    asked = len(server.asked("/nar/*"))
    assert accessor.listing is not None
    for each in range(FILES):
        file = FoundFile.find(accessor, b"lib/%02d" % each)
        assert file is not None
        assert await accessor.read(file.contents, file.size) == NOISE[each * 7 : each * 7 + 70_000]
    assert len(server.asked("/nar/*")) == asked
    assert sent(server) < FILES * 70_000 * 1.05


async def test_what_it_names_first_comes_first(store: Store, server: Server, member: Member) -> None:
    accessor = await store.find(member.path)
    order = [("app-1.0", b"big"), *(("app-1.0", b"lib/%02d" % each) for each in reversed(range(FILES)))]
    assert await Replay(reads(order), [(member.path, accessor)], list).run(Allowance()) == "done"
    starts = [int(one.headers["range"].removeprefix("bytes=").partition("-")[0]) for one in server.asked("/nar/*")]
    first = next(start for start in starts if start > BLOCK_BYTES)  # big is the first file of the NAR
    assert starts[0] < BLOCK_BYTES
    assert first > sum(starts) / len(starts)


async def test_a_stranger_brings_nothing_that_the_view_has_not(
    house: House, store: Store, server: Server, member: Member
) -> None:
    hidden = add_sealed(house.lake, "hidden", {b"secret": File(NOISE)}, KEY)
    accessor = await store.find(member.path)
    profile = Profile(
        (
            Read(0, Place("hidden", 0, b"secret"), 0, 99),
            Read(0, Place(hidden.path.base_name, 0, b"secret"), 0, 99),
            Read(0, Place("app-1.0", 0, b"gone"), 0, 99),
            Read(0, Place("app-1.0", 0, b"link"), 0, 99),
            Read(0, Place("app-1.0", 0, b"lib"), 0, 99),
            Read(0, Place("app-1.0", 0, b""), 0, 99),
            Read(0, Place("app-1.0", 0, b"big"), 2**32 - 1, 2**32 - 1),
        )
    )
    assert await Replay(profile, [(member.path, accessor)], list).run(Allowance()) == "done"
    assert sent(server) == 0


async def test_blocks_behind_the_end_of_a_file_that_got_smaller_are_left_out(
    store: Store, server: Server, member: Member
) -> None:
    accessor = await store.find(member.path)
    profile = Profile((Read(0, Place("app-1.0", 0, b"lib/00"), 0, 2**32 - 1),))
    replay = Replay(profile, [(member.path, accessor)], list)
    assert await replay.run(Allowance()) == "done"
    assert replay.asked_bytes == 70_000
    assert sent(server) < 140_000


async def test_it_ends_when_programs_read_other_things(store: Store, member: Member) -> None:
    accessor = await store.find(member.path)
    await accessor.settle()
    program = Program(accessor)
    replay = Replay(libraries(40), [(member.path, accessor)], program.new_reads)
    await program.reads(*(b"lib/%02d" % each for each in range(FILES - module.JUDGED_BLOCKS, FILES)))
    assert await replay.run(Allowance()) == "wrong"
    assert replay.asked_bytes == 0


async def test_what_came_along_with_others_says_nothing_against_it(store: Store, member: Member) -> None:
    accessor = await store.find(member.path)
    await accessor.settle()
    program = Program(accessor)
    program.wanted = False
    replay = Replay(libraries(40), [(member.path, accessor)], program.new_reads)
    await program.reads(*(b"lib/%02d" % each for each in range(40, FILES)))
    assert await replay.run(Allowance()) == "done"


async def test_it_waits_for_a_program_that_stops_half_way_and_goes_on_with_it(
    store: Store, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAD_BYTES", 500_000)
    accessor = await store.find(member.path)
    await accessor.settle()
    program = Program(accessor)
    replay = Replay(libraries(), [(member.path, accessor)], program.new_reads)

    async def read_on() -> None:
        while not replay.far_ahead:
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert 500_000 < replay.asked_bytes < FILES * 70_000 / 2
        await program.reads(*(b"lib/%02d" % each for each in range(FILES)))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on)
            assert await replay.run(Allowance()) == "done"
    assert replay.asked_bytes == FILES * 70_000


async def test_it_looks_seldom_after_a_program_that_reads_nothing_more(
    store: Store, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAD_BYTES", 500_000)
    accessor = await store.find(member.path)
    await accessor.settle()
    looks = 0

    def nothing() -> Sequence[tuple[NarAccessor, int, int, bool]]:
        nonlocal looks
        looks += replay.far_ahead
        return ()

    replay = Replay(libraries(), [(member.path, accessor)], nothing)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replay.run, Allowance())
        with trio.fail_after(60):
            while not looks:
                await trio.testing.wait_all_tasks_blocked()
        looks = 0
        await trio.sleep(1.2)
        assert looks < 10
        nursery.cancel_scope.cancel()


async def test_it_stops_at_its_allowance(store: Store, server: Server, member: Member) -> None:
    accessor = await store.find(member.path)
    assert await Replay(libraries(), [(member.path, accessor)], list).run(Allowance(100_000)) == "allowance"
    assert 0 < sent(server) < 1_200_000


async def test_a_nar_without_parts_is_brought_as_a_whole(store: Store, server: Server, house: House) -> None:
    solid = house.lake.add("solid", TREE, Recipe("zstd"))
    accessor = await store.find(solid.path)
    replay = Replay(reads([("solid", b"lib/07"), ("solid", b"lib/08")]), [(solid.path, accessor)], list)
    assert await replay.run(Allowance()) == "done"
    assert accessor.listing is not None
    assert len(server.asked("/nar/*")) == 1


async def test_what_the_cache_has_whole_is_neither_looked_up_nor_judged(store: Store, house: House) -> None:
    solid = house.lake.add("solid", TREE, Recipe("zstd"))
    accessor = await store.find(solid.path)
    await accessor.settle()
    program = Program(accessor)
    replay = Replay(reads([("solid", b"big")]), [(solid.path, accessor)], program.new_reads)
    await program.reads(*(b"lib/%02d" % each for each in range(FILES)))
    assert await replay.run(Allowance()) == "done"
    assert replay.asked_bytes == 0
    assert not replay.wrong


async def test_a_lake_that_fails_ends_it_and_harms_nobody(store: Store, server: Server, member: Member) -> None:
    accessor = await store.find(member.path)
    await accessor.settle()
    server.on("/nar/*", Fault(status=404))
    profile = reads(("app-1.0", b"lib/%02d" % each) for each in range(0, FILES, 4))
    assert await Replay(profile, [(member.path, accessor)], list).run(Allowance()) == "failures"


async def test_the_same_package_in_another_version_will_do_and_the_right_one_of_two(house: House) -> None:
    one = house.lake.add("glibc-2.37", {b"a": File(b"1")})
    other = house.lake.add("glibc-2.37", {b"a": File(b"2")})
    newer = house.lake.add("openssl-3.1-bin", {b"a": File(b"3")})
    async with house.open() as store:
        members = [(member.path, await store.find(member.path)) for member in (one, other, newer)]
        by_path = dict(members)
        named = Named(members)
        first, second = sorted([one.path, other.path])
        assert named.accessor(Place("glibc-2.37", 0, b"")) is by_path[first]
        assert named.accessor(Place("glibc-2.37", 1, b"")) is by_path[second]
        assert named.accessor(Place("glibc-2.38", 7, b"")) is by_path[second]
        assert named.accessor(Place("openssl-3.0-bin", 0, b"")) is by_path[newer.path]
        assert named.accessor(Place("openssl-3.0", 0, b"")) is None


async def test_bytes_are_counted_by_block_and_only_those_that_are_named(store: Store, member: Member) -> None:
    accessor = await store.find(member.path)
    await accessor.settle()
    file = FoundFile.find(accessor, b"big")
    assert file is not None
    last = len(NOISE) // BLOCK_BYTES
    for blocks in ((9, 9), (2, 3), (last, last + 5), (2**31, 2**32 - 1)):
        file.name(*blocks)
    named = [block for block in range(last + 9) if file.bytes_of(block) > 0]
    assert named == [2, 3, 9, last]
    assert file.bytes_of(last) == len(NOISE) % BLOCK_BYTES


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted), max_size=12), st.integers(1, 30))
def test_each_block_is_asked_for_once_however_often_it_is_named(named: list[list[int]], blocks: int) -> None:
    size = blocks * BLOCK_BYTES - 7
    file = FoundFile(cast("NarAccessor", None), 1, NarOffset(1000), size)
    asked = [span for first, last in named for span in file.name(first, last)]
    seen = [(start - 1000) // BLOCK_BYTES for span in asked for start in range(span.start, span.end, BLOCK_BYTES)]
    wanted = {block for first, last in named for block in range(first, last + 1) if block < blocks}
    assert sorted(seen) == sorted(wanted)
    assert {block for block in range(60) if file.bytes_of(block) > 0} == wanted
    assert sum(span.length for span in asked) == sum(map(file.bytes_of, wanted))
    assert all(before[1] < after[0] for before, after in pairwise(file.named))
