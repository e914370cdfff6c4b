"""What keeps pins complete outlives whatever happens to it, and says so once."""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from narfs.cache.pins import Pin, PinnedPath
from narfs.daemon.caching.pinning import Pinning
from narfs.daemon.selection import PathName
from narfs.errors import Unavailable, UsageError
from tests.cache.nars import opened
from tests.support.lakes import Lake
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from narfs.daemon.session import Session
    from tests.daemon.conftest import Place
    from tests.support.lakes import Member

BUDGET = 1_000_000


@pytest.mark.parametrize("trouble", [Unavailable("the store is down"), ZeroDivisionError("oops")])
async def test_trouble_is_told_once_and_tried_again_every_minute(
    tmp_path: Path,
    nursery: trio.Nursery,
    mock_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    trouble: Exception,
) -> None:
    narinfo = Lake(tmp_path / "lake").add("one", {b"x": File(b"x")}).narinfo
    tries = 0

    @asynccontextmanager
    async def session() -> AsyncIterator[Session]:
        nonlocal tries
        tries += 1
        if trouble:
            raise trouble
        yield cast("Session", None)

    async with opened(tmp_path / "cache") as cache:
        await cache.pinned.keep(Pin(narinfo.path.base_name, (PinnedPath("lake", b"", narinfo, 0.0),)))
        pinning = Pinning(cache, session)
        nursery.start_soon(pinning.run)
        gives_up = time.monotonic() + 60
        while tries < 4 or pinning.facts()[0].trouble is None:
            mock_clock.jump(1)
            await trio.to_thread.run_sync(lambda: None)
            assert time.monotonic() < gives_up
        assert trio.current_time() >= 3 * 60
        (facts,) = pinning.facts()
        assert (facts.complete, facts.missing_bytes) == (False, narinfo.nar_size)
        assert facts.trouble is not None
        assert str(trouble) in facts.trouble
        nursery.cancel_scope.cancel()
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == (1 if isinstance(trouble, Unavailable) else 4)


async def test_two_pins_at_once_take_no_more_than_may_be_pinned(place: Place, tmp_path: Path) -> None:
    size = 3 * BUDGET // 5
    members = [place.lake.add(name, {b"x": File(bytes([number]) * size)}) for number, name in enumerate(["a", "b"])]
    refused = []
    async with place.session(place.common) as session, opened(tmp_path / "own", budget_bytes=BUDGET) as cache:
        pinning = Pinning(cache, session)

        async def pin(member: Member) -> None:
            try:
                await pinning.pin(PathName.parse(member.path.path))
            except UsageError:
                refused.append(member.path.base_name)

        async with trio.open_nursery() as asking:
            for member in members:
                asking.start_soon(pin, member)
        assert len(refused) == 1
        assert cache.pinned.pins.nar_bytes < 7 * BUDGET // 8
