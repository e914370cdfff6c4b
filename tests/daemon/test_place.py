"""Where Views are bound to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs.daemon import linux
from narfs.daemon.views import place
from narfs.errors import Unavailable
from narfs.mount.view import View
from tests.mount.kernel import cut_off_in_time, is_mount, mounted, needs_fuse
from tests.mount.model import MemoryAccessor, path

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to bind")


async def test_a_bind_is_taken_off_also_by_who_is_cancelled(tmp_path: Path) -> None:
    for name in ("view", "at"):
        (tmp_path / name).mkdir()
    bound = await place.bind(tmp_path / "view", tmp_path / "at")
    assert is_mount(bound)
    with trio.CancelScope() as scope:
        scope.cancel()
        await place.unbind(bound, lazily=True)
    assert not is_mount(bound)


@needs_fuse
async def test_a_place_in_what_hangs_is_given_up(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    linux.mount("nobody", str(tmp_path), kind="fuse", options=options)
    try:
        with pytest.raises(Unavailable, match="hangs"):
            await place.unbind(tmp_path / "at", lazily=True)
        assert autojump_clock.current_time() == pytest.approx(10)
    finally:
        os.close(device)
        linux.unmount(str(tmp_path), linux.MNT_DETACH)


@pytest.mark.mount
@needs_fuse
async def test_a_place_in_a_view_of_ours_is_looked_at_by_a_thread(tmp_path: Path) -> None:
    view = View.of([(path("one"), MemoryAccessor({b"in": {b"empty": {}}}))])
    async with mounted(view, tmp_path / "m"):
        with cut_off_in_time(tmp_path / "m"):
            await place.clear(tmp_path / "m" / path("one").base_name / "in/empty")
