"""Asking the mount processes of this user, and his daemon, how they go."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from narfs.daemon import control
from narfs.errors import NotFound, TooSlow, Unavailable
from narfs.mount.mounted import place_of

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


def all_status(runtime: Path, mountpoint: Path | None = None) -> list[dict[str, Any]]:
    """Give the status of every mount, or of the one on ``mountpoint``: NotFound if no process of narfs serves it.

    Processes that ended meanwhile are left out, and their sockets removed; one of many that does not answer is warned
    of and left out.
    """
    place = None if mountpoint is None else place_of(mountpoint)
    told = []
    for socket in control.sockets(runtime, place):
        try:
            told.append(control.ask(socket, "status"))
        except TooSlow as error:
            if place is not None:
                raise
            log.warning("process %d: %s", control.pid_of(socket), error)
        except Unavailable:
            if socket.exists():
                raise
    if place is not None and not told:
        raise NotFound(f"{place}: no narfs of yours is mounted there; narfs status lists all")
    return told


def daemon_status(runtime: Path) -> dict[str, Any] | None:
    """Give the status of the daemon; None if none runs."""
    socket = runtime / control.DAEMON_SOCKET
    if not socket.exists():
        return None
    try:
        told: dict[str, Any] = control.ask(socket, "status")
    except TooSlow:
        raise
    except Unavailable:
        if socket.exists():
            raise
        return None
    return told
