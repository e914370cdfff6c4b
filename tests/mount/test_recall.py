"""Pages of a NAR that turned out to be bad are taken back, whoever opens its files when."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio
import trio.testing

from narfs.errors import Corrupt, Unavailable
from narfs.mount.fuse.recall import Recall
from tests.mount.kernel import PATIENCE_S

if TYPE_CHECKING:
    import pytest


class Passing:
    """An accessor whose pass ends as it is told to."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.error: Exception = Unavailable("the pass broke off")

    async def settle(self) -> None:
        await self.ended.wait()
        raise self.error


async def test_who_opens_a_file_while_pages_are_taken_back_is_watched_anew(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    busy, may_end = trio.Event(), Event()

    def invalidate(inode: Any) -> None:
        asked.append(inode)
        trio.from_thread.run_sync(busy.set)
        may_end.wait(PATIENCE_S)

    monkeypatch.setattr(pyfuse3, "invalidate_inode", invalidate)
    accessor: Any = Passing()
    recall = Recall()
    nursery.start_soon(recall.run)
    recall.note(accessor, pyfuse3.InodeT(7))
    accessor.ended.set()
    with trio.fail_after(PATIENCE_S):
        await busy.wait()
    accessor.ended, accessor.error = trio.Event(), Corrupt("and the next is wrong")
    recall.note(accessor, pyfuse3.InodeT(8))
    may_end.set()
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert asked == [7]
    accessor.ended.set()
    with trio.fail_after(PATIENCE_S):
        while len(asked) < 2:  # noqa: ASYNC110 - a thread asks
            await trio.sleep(0.01)
    assert asked == [7, 8]
