"""Where Views are bound to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.daemon.views import place
from tests.mount.kernel import is_mount

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
