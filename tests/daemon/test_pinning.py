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
from narfs.errors import Unavailable
from tests.cache.nars import opened
from tests.support.lakes import Lake
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from narfs.daemon.session import Session


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
        gives_up = time.monotonic() + 20
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
