"""Progressive: a path is readable as its NAR passes, and poisoned for ever if the end does not keep the promise."""

from __future__ import annotations

import errno
import os
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from narfs.engine.trust import Verify
from narfs.errors import Corrupt, FormatError, NarfsError
from tests.engine.conftest import contents, read_tree
from tests.support.faults import Fault, Stall
from tests.support.lakes import Recipe
from tests.support.trees import ODD_TREE, File, Tree

if TYPE_CHECKING:
    from tests.engine.conftest import House
    from tests.support.server import Server

NOISE = random.Random(2).randbytes(3_000_000)  # noqa: S311 - any noise will do
TREE: Tree = {
    b"a": {b"first": File(NOISE[:1_500_000]), b"odd": ODD_TREE},
    b"b": File(NOISE[1_500_000:]),
    b"z": File(b"the last"),
}


@pytest.mark.parametrize("compression", ["none", "zstd", "xz"])
async def test_what_has_passed_can_be_read_while_the_rest_is_still_coming(
    house: House, server: Server, compression: str
) -> None:
    member = house.lake.add("tree", TREE, Recipe(compression))
    stall = Stall(after=house.lake.blob_file(member).stat().st_size - 100_000)
    server.on("/nar/*", Fault(stall=stall))
    async with house.open(server.url, verify=Verify.PROGRESSIVE) as store:
        accessor = await store.find(member.path)
        with trio.fail_after(60):
            assert await contents(accessor, b"a", b"first") == NOISE[:1_500_000]
            assert await accessor.child(0, b"absent") is None
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
            await accessor.children(0)
        assert accessor.listing is None
        stall.released.set()
        assert await read_tree(accessor) == TREE
    assert len(server.asked("/nar/*")) == 1


async def test_a_mismatch_at_the_end_poisons_the_path_for_ever_and_purges_the_cache(
    house: House, server: Server, mock_clock: trio.testing.MockClock
) -> None:
    member = house.lake.add("victim", TREE, Recipe("none"))
    server.on("/nar/*", Fault(flip_at=2_500_000))
    async with house.open(server.url, verify=Verify.PROGRESSIVE) as store:
        accessor = await store.find(member.path)
        assert await contents(accessor, b"a", b"first") == NOISE[:1_500_000]
        with pytest.raises((Corrupt, FormatError)):
            await accessor.settle()
        server.behave()
        mock_clock.jump(1e6)
        with pytest.raises(NarfsError):
            await contents(accessor, b"a", b"first")
        counters = store.statistics().counters
        assert (counters.passes_begun, counters.corrupt) == (1, 1)
    assert not list(house.cache_directory.rglob("*.nar"))


async def test_a_connection_that_breaks_is_resumed_and_nothing_is_fetched_twice(house: House, server: Server) -> None:
    member = house.lake.add("tree", TREE, Recipe("none"))
    server.on("/nar/*", Fault(cut_after=1_200_000), times=1)
    async with house.open(server.url, verify=Verify.PROGRESSIVE) as store:
        assert await read_tree(await store.find(member.path)) == TREE
    assert sum(asked.sent_bytes for asked in server.asked("/nar/*")) == len(member.nar)


async def test_what_nobody_can_have_seen_poisons_nothing(
    house: House, server: Server, mock_clock: trio.testing.MockClock
) -> None:
    member = house.lake.add("victim", TREE, Recipe("zstd"))
    server.on("/nar/*", Fault(flip_at=0), times=1)
    async with house.open(server.url, verify=Verify.PROGRESSIVE) as store:
        accessor = await store.find(member.path)
        with pytest.raises((Corrupt, FormatError)):
            await accessor.children(0)
        mock_clock.jump(2)
        assert await read_tree(accessor) == TREE


class Broken:
    """The descriptor of a draft on a disk that can no longer be read, and says so when it ``may``."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.may = threading.Event()

    def read(self, *_: object) -> bytes:
        assert self.may.wait(60)
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("late", [False, True], ids=["at once", "when all has passed"])
async def test_a_cache_disk_that_fails_under_a_reader_makes_it_wait_and_not_fail(
    house: House, server: Server, late: bool
) -> None:
    member = house.lake.add("tree", TREE, Recipe("none"))
    stall = Stall(after=2_500_000)  # pieces of 1 MiB come to the worker
    server.on("/nar/*", Fault(stall=stall), times=1)
    async with house.open(server.url, verify=Verify.PROGRESSIVE) as store, trio.open_nursery() as readers:
        accessor = await store.find(member.path)
        assert await contents(accessor, b"a", b"first") == NOISE[:1_500_000]
        draft: Any = accessor._pass and accessor._pass.draft
        broken = draft._file = Broken(os.dup(draft._file.fd))

        async def reader() -> None:
            with trio.fail_after(30):
                assert await contents(accessor, b"a", b"first") == NOISE[:1_500_000]
            os.close(broken.fd)

        readers.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked(0.1)
        if not late:
            broken.may.set()
            await trio.testing.wait_all_tasks_blocked(0.1)
        stall.released.set()
        await accessor.settle()
        broken.may.set()
