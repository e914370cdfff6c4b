"""Views over the end of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from narfs.daemon.selection import Selection
from narfs.daemon.views.keeper import Views
from narfs.daemon.views.records import Records
from narfs.daemon.views.spec import ViewSpec
from narfs.errors import Unavailable, UsageError
from narfs.mount.fuse import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.daemon.config import Config
    from narfs.daemon.erofs.images import Images
    from narfs.daemon.views.kept import KeptView
    from narfs.daemon.views.sessions import Sessions


def without_stores(directory: Path, nursery: trio.Nursery) -> Views:
    """Give one that can make no View."""

    def no_config() -> Config:
        raise Unavailable("no store")

    return Views(
        Stage(),
        cast("Sessions", None),
        home=directory,
        own=directory,
        records=Records(directory),
        images=cast("Images", None),
        nursery=nursery,
        config=no_config,
    )


async def test_a_daemon_that_goes_before_its_views_are_there_keeps_them_for_the_next(tmp_path: Path) -> None:
    records = Records(tmp_path)
    async with trio.open_nursery() as nursery:
        views = without_stores(tmp_path, nursery)
        records.write(ViewSpec("one", Selection(closed=False)), None)
        await views.close()
        assert "going away" in (await views.restore())[0]
    assert (tmp_path / "one.json").exists()


class Ending:
    """A View that is kept, as far as it has to be to end."""

    bound = shown = None

    def __init__(self) -> None:
        self.running = self.teaching = trio.CancelScope()
        self.ahead = self
        self.learned = False

    async def end(self) -> None:
        await trio.sleep(5)
        self.learned = True


async def test_views_that_end_together_learn_together(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        views = without_stores(tmp_path, nursery)
        ending = [Ending() for _ in range(100)]
        views._kept.update({str(number): cast("KeptView", each) for number, each in enumerate(ending)})
        await views.close()
    assert all(each.learned for each in ending)
    assert autojump_clock.current_time() == pytest.approx(5)


async def test_a_view_that_cannot_be_made_again_is_listed_keeps_its_place_and_can_be_removed(tmp_path: Path) -> None:
    at = tmp_path / "at"
    records = Records(tmp_path)
    records.write(ViewSpec("one", Selection(closed=False), at), None)
    (tmp_path / "other.json").write_text("{")
    async with trio.open_nursery() as nursery:
        views = without_stores(tmp_path, nursery)
        assert len(await views.restore()) == 2
        told = {facts["name"]: facts for facts in views.facts()}
        assert told["one"]["directory"] == str(at)
        assert "could not be made again" in str(told["other"]["frontend_because"])
        with pytest.raises(UsageError, match="is the place of view one"):
            await views.create(ViewSpec("two", Selection(closed=False), at))
        for name in ("one", "other"):
            assert (await views.remove(name)).paths == ()
    assert (views.facts(), records.names()) == ([], [])
