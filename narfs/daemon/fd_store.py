"""Descriptors that the service manager keeps while this process is replaced: sd_notify(3), FDSTORE=1."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from narfs.daemon.readiness import notify_systemd

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

log = logging.getLogger(__name__)

_FIRST_PASSED: Final = 3

_ANSWER_S: Final = 2.0


def keep(fd: int, name: str, environ: Mapping[str, str]) -> bool:
    """Have this descriptor kept under ``name`` and no other; whether there is somebody to keep it."""
    address = environ.get("NOTIFY_SOCKET")
    if not address or not environ.get("INVOCATION_ID"):
        return False
    forget(name, environ)
    to = "\0" + address[1:] if address.startswith("@") else address
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.sendmsg([f"FDSTORE=1\nFDNAME={name}".encode()], ancillary, 0, to)
    return True


def forget(name: str, environ: Mapping[str, str]) -> None:
    """Have nothing kept under ``name`` any longer."""
    notify_systemd(f"FDSTOREREMOVE=1\nFDNAME={name}", environ)


def kept(name: str, environ: MutableMapping[str, str]) -> int | None:
    """Give the newest descriptor that was kept under ``name``, once, and close all others: sd_listen_fds(3)."""
    names, pid = environ.pop("LISTEN_FDNAMES", "").split(":"), environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdecimal():
        return None
    found = None
    for place in range(int(count)):
        fd = _FIRST_PASSED + place
        os.set_inheritable(fd, False)
        if place < len(names) and names[place] == name:
            fd, found = found, fd  # type: ignore[assignment]
        if fd is not None:
            os.close(fd)
    return found


async def restarting(environ: Mapping[str, str]) -> bool:
    """Say whether the service manager stops this process to start it again, which it tells only those who ask."""
    unit = _unit(Path("/proc/self/cgroup").read_text()) if environ.get("INVOCATION_ID") else None  # noqa: ASYNC240
    if unit is None:
        return False
    command = ["systemctl", "list-jobs", "--no-legend", "--plain", "--full", unit]
    with trio.move_on_after(_ANSWER_S):
        try:
            done = await trio.run_process(command, stdin=subprocess.DEVNULL, capture_stdout=True, check=False)
        except OSError as error:
            log.warning("systemctl: %s; views end with this process", error)
            return False
        return any(line.split()[1:3] == [unit, "restart"] for line in done.stdout.decode().splitlines())
    log.warning("systemctl does not answer; views end with this process")
    return False


def _unit(cgroup: str) -> str | None:
    """Give the service that a process is of, by its control group."""
    found = re.search(r"^(?:0:|\d+:name=systemd):.*/([^/\n]+\.service)$", cgroup, re.MULTILINE)
    return None if found is None else found[1]
