"""Views over the end of a daemon."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from narfs.daemon import control, linux, overlaying
from narfs.daemon.control_server import Operation, listening
from narfs.daemon.selection import Selection
from narfs.daemon.views.keeper import Views
from narfs.daemon.views.operations import operations
from narfs.daemon.views.records import Records
from narfs.daemon.views.spec import ViewSpec
from narfs.errors import Unavailable, UsageError
from narfs.mount.fuse import Stage
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.kernel import needs_fuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from narfs.daemon.config import Config
    from narfs.daemon.erofs.images import Images
    from narfs.daemon.views.kept import KeptView
    from narfs.daemon.views.sessions import Sessions


def without_stores(
    directory: Path, nursery: trio.Nursery, trouble: Callable[[], Exception] = lambda: Unavailable("no store")
) -> Views:
    """Give one that can make no View."""

    def no_config() -> Config:
        raise trouble()

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


class Shown:
    """A View that is kept, as far as it has to be to be removed."""

    bound = shown = account = None

    def __init__(self, views: Views) -> None:
        self.spec = ViewSpec("one", Selection(closed=True))
        self.scene = Scene(View.beside_others(views._stage.inodes, closed=True))
        self.removing = trio.Lock()
        self.running = self.teaching = self.answering = trio.CancelScope()
        self.ahead = self.session = self
        self.given_back: list[object] = []
        views._stage.show(b"one", self.scene)
        views._kept["one"] = cast("KeptView", self)
        views._sessions = cast("Sessions", self)

    async def end(self) -> None:
        """Learn nothing."""

    def give_back(self, session: object) -> None:
        self.given_back.append(session)


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


@pytest.mark.parametrize(
    "trouble", [lambda: TypeError("rot"), lambda: ExceptionGroup("some", [TypeError("rot")])], ids=["one", "a group"]
)
async def test_a_bug_that_meets_one_view_ends_no_daemon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: Callable[[], Exception]
) -> None:
    Records(tmp_path).write(ViewSpec("one", Selection(closed=False)), None)
    async with trio.open_nursery() as nursery:
        views = without_stores(tmp_path, nursery, trouble)
        (why,) = await views.restore()
    assert "a bug in narfs" in why
    assert "rot" in why
    (record,) = caplog.records
    assert record.exc_info is not None


async def test_a_lost_view_ends_with_its_owner_and_its_place_is_free(tmp_path: Path) -> None:
    at = tmp_path / "at"
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            owner = await nursery.start(partial(trio.run_process, ["sleep", "60"], check=False))
            spec = ViewSpec("one", Selection(closed=True), at, owner_pid=owner.pid).with_owner_known()
            Records(tmp_path).write(spec, None)
            views = without_stores(tmp_path, nursery)
            await views.restore()
            (facts,) = views.facts()
            assert (facts["closed"], facts["owner_pid"]) == (True, owner.pid)
            owner.kill()
    assert (views.facts(), Records(tmp_path).names()) == ([], [])
    with pytest.raises(Unavailable, match="no store"):  # and not that the place is taken
        await views.create(ViewSpec("two", Selection(closed=False), at))


async def test_a_lost_view_ends_with_its_lease(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    Records(tmp_path).write(ViewSpec("one", Selection(closed=False), lease_s=60), None)
    async with trio.open_nursery() as nursery:
        views = without_stores(tmp_path, nursery)
        await views.restore()
    assert autojump_clock.current_time() >= 60
    assert (views.facts(), Records(tmp_path).names()) == ([], [])


@needs_fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
async def test_a_place_in_what_hangs_keeps_no_other_view_away(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    hangs, state = tmp_path / "hangs", tmp_path / "state"
    for directory in (hangs, state):
        directory.mkdir()
    Records(state).write(ViewSpec("one", Selection(closed=False), hangs / "below/at"), None)
    device = os.open("/dev/fuse", os.O_RDWR)
    linux.mount("nobody", str(hangs), kind="fuse", options=f"fd={device},rootmode=40000,user_id=0,group_id=0")
    try:
        async with trio.open_nursery() as nursery:
            views = without_stores(state, nursery)
            (why,) = await views.restore()
        assert "does not answer" in why
        assert views.facts()[0]["directory"] == str(hangs / "below/at")
        assert autojump_clock.current_time() == pytest.approx(5)
    finally:
        os.close(device)
        linux.unmount(str(hangs), linux.MNT_DETACH)


async def test_who_wants_something_of_a_lost_view_is_told_why_it_is_lost(public: Path) -> None:
    Records(public).write(ViewSpec("one", Selection(closed=True)), None)
    async with trio.open_nursery() as nursery:
        views = without_stores(public, nursery)
        await views.restore()
        with pytest.raises(Unavailable, match="could not be made again: no store"):
            views.named("one")
        (public / "narfs").mkdir(mode=0o700)
        offered = {name: Operation(do) for name, do in operations(views).items()}
        async with listening(public / "narfs" / control.DAEMON_SOCKET, offered):
            with pytest.raises(Unavailable, match="could not be made again: no store"):
                await trio.to_thread.run_sync(overlaying.kept, "one", {"XDG_RUNTIME_DIR": str(public)})
        with views._claimed("one", None), pytest.raises(UsageError, match="made or removed just now"):
            await views.remove("one")


async def test_a_view_whose_record_cannot_be_removed_stays_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "read-only", str(file))

    async with trio.open_nursery() as nursery:
        views = without_stores(tmp_path, nursery)
        kept = Shown(views)
        with monkeypatch.context() as read_only:
            read_only.setattr(Path, "unlink", refuse)
            with pytest.raises(Unavailable, match="read-only"):
                await views.remove("one", lazily=True)
        assert (kept.given_back, len(views.kept)) == ([], 1)
        await views.remove("one", lazily=True)
        assert (kept.given_back, len(views.kept)) == ([kept], 0)


async def test_a_view_without_owner_is_removed_as_soon_as_that_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    refusals = iter([OSError(errno.EROFS, "read-only")] * 2)
    unlink = Path.unlink

    def refuse(file: Path, *, missing_ok: bool) -> None:
        for refusal in refusals:
            raise refusal
        unlink(file, missing_ok=missing_ok)

    async with trio.open_nursery() as nursery:
        views = without_stores(tmp_path, nursery)
        kept = Shown(views)
        monkeypatch.setattr(Path, "unlink", refuse)
        await views._remove_orphan("one")
        assert (kept.given_back, len(views.kept)) == ([kept], 0)
    assert autojump_clock.current_time() == pytest.approx(120)
