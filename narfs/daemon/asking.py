"""Asking the mount processes of this user how they go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from narfs.daemon import control
from narfs.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def all_status(runtime: Path, mountpoint: Path | None = None) -> list[dict[str, Any]]:
    """Give the status of every mount, or of the one on ``mountpoint``: NotFound if no process of narfs serves it.

    Processes that ended meanwhile are left out, and their sockets removed.
    """
    place = None if mountpoint is None else os.path.realpath(mountpoint)
    told = []
    for socket in control.sockets(runtime, place):
        try:
            told.append(control.ask(socket, "status"))
        except Unavailable:
            if socket.exists():
                raise
    if place is not None and not told:
        raise NotFound(f"{place}: no narfs of yours is mounted there; narfs status lists all")
    return told
