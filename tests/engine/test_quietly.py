"""What nobody has asked for fails for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from narfs.engine.ahead.quietly import quietly
from narfs.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return work


async def test_a_failure_is_nobodys_and_a_bug_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await quietly(raising(Unavailable("the lake is away")))
    assert not caplog.records
    await quietly(raising(ValueError("a bug")))
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_it_can_be_cancelled() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await quietly(trio.sleep_forever)
    assert scope.cancelled_caught
