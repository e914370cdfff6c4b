"""A newer Nix than the machine's own: from Debian's next release, unpacked by ``scripts/setup --test``.

Its programs start through ``on_newer_usr``, which gives them that Debian's /usr; all else they share with the world.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NAME = "nix-2.26-trixie"

each_nix = pytest.mark.parametrize("machine", ["own", "newer"], indirect=True)
"""Run with the machine's own Nix and with the newer one."""


def link_programs(directory: Path) -> None:
    """Make a directory of the newer Nix's programs, for PATH."""
    usr = _find_usr()
    directory.mkdir()
    (directory / "usr").symlink_to(usr)
    for program in (usr / "bin").glob("nix*"):
        (directory / program.name).symlink_to(Path(__file__).with_name("on_newer_usr"))


def _find_usr() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    usr = cache / "narfs-test" / NAME
    if not usr.exists():
        give_up = pytest.fail if "CI" in os.environ else pytest.skip
        give_up(f"no newer Nix: scripts/setup --test unpacks {usr}, on a Debian")
    return usr
