"""Worker processes that are behind, stopped, killed or gone cost their passes, and nothing else."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from narfs.errors import Unavailable
from tests.engine.conftest import read_tree
from tests.support.lakes import Recipe
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from narfs.engine.store import Store
    from tests.engine.conftest import House

NOISE = random.Random(4).randbytes(4_000_000)  # noqa: S311 - any noise will do
SMALL: Tree = {b"small": File(b"fits into the socket")}
LARGE: Tree = {b"large": File(NOISE)}


def workers(store: Store) -> list[int]:
    return [worker._process.pid for worker in store.means.workers._processes]


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """Pids of processes that are stopped; whatever happens, none of them stays."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        assert not Path("/proc", str(pid)).exists()


def stop_workers(store: Store, stopped: list[int]) -> None:
    stopped += workers(store)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)


async def test_a_store_closes_while_a_worker_is_behind(house: House, mock_clock: MockClock, stopped: list[int]) -> None:
    member = house.lake.add("large", LARGE, Recipe("none"))
    async with house.open() as store, trio.open_nursery() as readers:
        store.warm_up()
        stop_workers(store, stopped)
        readers.start_soon(read_tree, await store.find(member.path))
        await wait_all_tasks_blocked(0.2)
        mock_clock.autojump_threshold = 0.05
        readers.cancel_scope.cancel()
    assert list(house.cache_directory.glob("scratch/*")) == []


@pytest.mark.parametrize("tree", [SMALL, LARGE], ids=["after everything was sent", "in the middle"])
async def test_a_worker_that_hangs_fails_its_pass_and_the_next_pass_has_another(
    house: House, mock_clock: MockClock, stopped: list[int], tree: Tree
) -> None:
    member = house.lake.add("tree", tree, Recipe("none"))
    async with house.open() as store:
        store.warm_up()
        stop_workers(store, stopped)
        mock_clock.autojump_threshold = 0.05
        accessor = await store.find(member.path)
        with trio.fail_after(100), pytest.raises(Unavailable, match="worker"):
            await read_tree(accessor)
        mock_clock.autojump_threshold = float("inf")
        mock_clock.jump(2)
        assert await read_tree(accessor) == tree


async def test_a_worker_that_is_killed_fails_its_pass_and_the_next_pass_has_another(
    house: House, mock_clock: MockClock, stopped: list[int]
) -> None:
    member = house.lake.add("tree", LARGE, Recipe("none"))
    async with house.open() as store, trio.open_nursery() as others:
        store.warm_up()
        stop_workers(store, stopped)
        accessor = await store.find(member.path)

        async def kill() -> None:
            await wait_all_tasks_blocked(0.2)
            os.kill(stopped[0], signal.SIGKILL)

        others.start_soon(kill)
        with pytest.raises(Unavailable, match="worker"):
            await read_tree(accessor)
        mock_clock.jump(2)
        assert await read_tree(accessor) == LARGE


async def test_a_worker_is_ended_also_when_there_is_no_thread_to_wait_for_it_in(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    async with house.open() as store:
        store.warm_up()
        (process,) = (worker._process for worker in store.means.workers._processes)
        with monkeypatch.context() as patched:
            patched.setattr(trio.to_thread, "run_sync", none_left)
            process.kill()
            with trio.fail_after(60):
                while store.means.workers._processes[0].alive:  # noqa: ASYNC110 - a process ends when it does
                    await trio.sleep(0.01)
                await wait_all_tasks_blocked(0.1)
    assert process.wait(10) == -signal.SIGKILL
