"""Views over the end of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import trio

from narfs.daemon.selection import Selection
from narfs.daemon.views.keeper import Views
from narfs.daemon.views.records import Records
from narfs.daemon.views.spec import ViewSpec
from narfs.mount.fuse import Stage

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_daemon_that_goes_before_its_views_are_there_keeps_them_for_the_next(tmp_path: Path) -> None:
    unused = cast("Any", None)
    records = Records(tmp_path)
    async with trio.open_nursery() as nursery:
        views = Views(
            Stage(),
            unused,
            home=tmp_path,
            own=tmp_path,
            records=records,
            images=unused,
            nursery=nursery,
            config=unused,
        )
        records.write(ViewSpec("one", Selection(closed=False)), None)
        await views.close()
        assert "going away" in (await views.restore())[0]
    assert (tmp_path / "one.json").exists()
