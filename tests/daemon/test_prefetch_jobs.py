"""Jobs of ``narfs prefetch``: what becomes of them when whom they are for goes, and what there is no room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from narfs.daemon.prefetching.jobs import Jobs
from narfs.errors import NotFound
from tests.cache.nars import MIB, opened

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.engine.accessor import NarAccessor


class Fake:
    """As much of an accessor as a job asks before it brings something."""

    def __init__(self, key: bytes, nar_size: int, *, stalls: bool = False, raises: Exception | None = None) -> None:
        self.key = key
        self.nar_size = nar_size
        self.pass_bytes = nar_size // 2
        self.stalls = stalls
        self.raises = raises

    async def missing_bytes(self) -> int:
        if self.stalls:
            await trio.sleep_forever()
        if self.raises is not None:
            raise self.raises
        return self.nar_size


def paths(*made: Fake) -> list[NarAccessor]:
    return cast("list[NarAccessor]", list(made))


async def test_a_job_ends_with_whom_it_was_begun_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        jobs = Jobs(cache)
        async with trio.open_nursery() as view:
            begun = jobs.begin(paths(Fake(b"a", MIB, stalls=True)), None, view.start_soon)
            await wait_all_tasks_blocked()
            assert not jobs.facts(begun.id).done
            view.cancel_scope.cancel()
        facts = jobs.facts(begun.id)
        assert (facts.done, facts.stopped_by) == (True, "gone")


async def test_what_there_is_no_room_for_is_left_out(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with opened(tmp_path, budget_bytes=2 * MIB) as cache:
        jobs = Jobs(cache)
        begun = jobs.begin(paths(Fake(b"a", 3 * MIB), Fake(b"b", 4 * MIB)), None, nursery.start_soon)
        with trio.fail_after(60):
            while not jobs.facts(begun.id).done:
                await trio.lowlevel.checkpoint()
        facts = jobs.facts(begun.id)
        assert (facts.paths, facts.fetched_bytes, facts.stopped_by) == (2, 0, "cache")
        assert facts.wanted_bytes == 7 * MIB // 2


async def test_jobs_of_long_ago_are_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        jobs = Jobs(cache)
        begun = [jobs.begin(paths(), None, lambda _: None) for _ in range(70)]  # started by nobody
        with pytest.raises(NotFound, match="prefetch 1"):
            jobs.facts(begun[0].id)
        assert jobs.facts(begun[-1].id).paths == 0


async def test_a_bug_in_a_job_is_told_and_ends_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path) as cache:
        jobs = Jobs(cache)
        async with trio.open_nursery() as daemon:
            begun = jobs.begin(paths(Fake(b"a", MIB, raises=ZeroDivisionError("a bug"))), None, daemon.start_soon)
        facts = jobs.facts(begun.id)
        assert (facts.done, facts.stopped_by) == (True, "failures")
        assert "ZeroDivisionError" in str(facts.trouble)
        assert any(record.exc_info is not None for record in caplog.records)
