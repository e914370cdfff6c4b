"""How a child tells its parent that it serves, or why it does not: one line of JSON on a pipe, then end of file.

A child that dies first says nothing, which the parent reads as end of file. systemd hears READY=1 of the same moment.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from narfs.errors import NarfsError, TooSlow, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

READY_DEADLINE_S = 600.0
"""Bounds the start, which for a closed View means all its narinfos; a lake without progress gives up much earlier."""

_PIPE_PART_BYTES = 4096


class Announcer:
    """The child's end; says one thing once. ``fd`` is the pipe's, or None when nobody waits there.

    ``leaves_session``: who is ready has the terminal of who waits no longer.
    """

    def __init__(self, fd: int | None, environ: Mapping[str, str], *, leaves_session: bool = False) -> None:
        self._fd = fd
        self._leaves_session = leaves_session
        self._environ = environ

    def ready(self, warnings: Sequence[str] = ()) -> None:
        """Say that the mount is usable, and what whoever made it should know."""
        if self._leaves_session:
            os.setsid()
        notify_systemd("READY=1", self._environ)
        self._say({"ready": True, "warnings": list(warnings)})

    def failed(self, error: NarfsError) -> bool:
        """Say why it never will be; False if nobody hears it there."""
        return self._say({"failed": str(error), "usage": isinstance(error, UsageError)})

    def _say(self, message: Mapping[str, object]) -> bool:
        if self._fd is None:
            return False
        fd, self._fd = self._fd, None
        try:
            os.write(fd, json.dumps(message).encode())
        except BrokenPipeError:
            return False  # the parent gave up waiting
        finally:
            os.close(fd)
        return True


def wait_ready(fd: int, *, deadline_s: float, log: str) -> list[str]:
    """Wait at the parent's end until the child serves; give its warnings, raise what it failed with. Closes ``fd``."""
    said = b""
    until = time.monotonic() + deadline_s
    with os.fdopen(fd, "rb", buffering=0) as pipe:
        while True:
            left = until - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise TooSlow(f"the mount was not usable after {deadline_s:.0f} s; {log}")
            part = pipe.read(_PIPE_PART_BYTES)
            if not part:
                break
            said += part
    if not said:
        raise Unavailable(f"the daemon ended before the mount was usable; {log}")
    message = json.loads(said)
    if "ready" in message:
        warnings: list[str] = message["warnings"]
        return warnings
    kind = UsageError if message["usage"] else Unavailable
    raise kind(message["failed"])


def notify_systemd(state: str, environ: Mapping[str, str]) -> None:
    """Tell the service manager, if there is one: sd_notify(3)."""
    if address := environ.get("NOTIFY_SOCKET"):
        name = "\0" + address[1:] if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.sendto(state.encode(), name)
