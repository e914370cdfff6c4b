"""Directories of the FUSE sessions that serve the slab of one mount: ``RUNTIME/erofs-PID``."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from narfs.daemon import linux
from narfs.daemon.directories import private_directory, socket_directory
from narfs.mount.mounted import lives, mount_at

if TYPE_CHECKING:
    from pathlib import Path

_HOME: Final = "erofs-"


def make_home(runtime: Path) -> Path:
    """Make the directory of the session; those of processes that were killed are cleared."""
    clear_homes(socket_directory(runtime))
    return private_directory(runtime / f"{_HOME}{os.getpid()}")


def clear_homes(runtime: Path) -> None:
    """Clear the directories of sessions whose process was killed."""
    for home in runtime.glob(f"{_HOME}*"):
        if not lives(home.name.removeprefix(_HOME)):
            with suppress(OSError):  # somebody else was faster, or it is in nobody's way
                if is_ours(home):
                    linux.unmount(str(home), linux.MNT_DETACH)
                home.rmdir()


def is_ours(place: Path) -> bool:
    """Whether narfs mounted what is mounted there."""
    here = mount_at(place)
    return here is not None and here.is_ours
