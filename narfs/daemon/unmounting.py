"""``narfs umount``: the mount's own process is asked; where none answers, the kernel is."""

from __future__ import annotations

import os
import select
import subprocess
from typing import TYPE_CHECKING

from narfs.daemon import control, linux
from narfs.daemon.asking import daemon_status
from narfs.daemon.erofs.homes import clear_homes
from narfs.errors import NotFound, TooSlow, Unavailable, UsageError
from narfs.mount.mounted import mount_at, place_of

if TYPE_CHECKING:
    from pathlib import Path

_GOODBYE_S = 30.0
"""Bounds how long the daemon may take after it has agreed: it closes its cache and answers what is in flight."""


def unmount(mountpoint: Path, runtime: Path) -> None:
    """Unmount what narfs mounted there and return when its process has ended; NotFound if there is nothing."""
    place = place_of(mountpoint)
    for socket in control.sockets(runtime, place):
        if _asked(socket):
            return
    here = mount_at(place)
    if here is None:
        raise NotFound(f"{place}: nothing is mounted there")
    if not here.is_ours:
        raise UsageError(f"{place}: a mount of kind {here.kind}, not of narfs; use umount")
    if here.view is not None and _is_kept(here.view, runtime):
        raise UsageError(f"{place}: {here.whose}")
    _take_off(place)
    clear_homes(runtime)


def _is_kept(view: str, runtime: Path) -> bool:
    """Whether the daemon has a view of this name; one that was killed has left its mounts."""
    told = daemon_status(runtime)
    return told is not None and any(each["name"] == view for each in told["views"])


def _asked(socket: Path) -> bool:
    """Ask a daemon to go and wait until it has; False if it is gone already."""
    pid = control.pid_of(socket)
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        socket.unlink(missing_ok=True)
        return False
    advice = f"kill -KILL {pid}, then narfs umount clears what is left"
    try:
        control.ask(socket, "unmount")
        gone = bool(select.select([process], [], [], _GOODBYE_S)[0])
    except TooSlow as error:
        raise TooSlow(f"process {pid} does not answer; {advice}") from error
    except Unavailable:
        if socket.exists():
            raise
        return False
    finally:
        os.close(process)
    if not gone:
        raise TooSlow(f"process {pid} agreed to unmount and is still there after {_GOODBYE_S:.0f} s; {advice}")
    return True


def _take_off(place: str) -> None:
    """Unmount without a daemon's help; lazily, for who mounted it may be dead while programs still stand in it."""
    if os.geteuid() == 0:
        try:
            linux.unmount(place, linux.MNT_DETACH)
        except OSError as error:
            raise Unavailable(f"{place}: cannot be unmounted: {error.strerror}") from error
        return
    try:
        done = subprocess.run(["fusermount3", "-u", "-z", place], capture_output=True, text=True, check=False)  # noqa: S603, S607 - the system's own, wherever it is
    except FileNotFoundError as error:
        raise Unavailable(f"{place}: fusermount3 is not installed (package fuse3)") from error
    if done.returncode != 0:
        raise Unavailable(f"{place}: {done.stderr.strip()}")
