"""A ``narfs daemon`` that a test starts and asks by itself: a command takes a quarter of a second of a processor."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from narfs.daemon import control

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 120


def ask(runtime: Path, operation: str, **arguments: object) -> Any:
    """Have the daemon whose socket is in ``runtime`` do something."""
    return control.ask(runtime / control.DAEMON_SOCKET, operation, arguments, deadline_s=600)


class Manager:
    """Who a daemon tells that it serves, as it tells systemd: with ``environ`` in its environment."""

    def __init__(self, heard: socket.socket) -> None:
        self._heard = heard
        self.environ = {"NOTIFY_SOCKET": f"@{heard.getsockname()[1:].decode()}"}

    def wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it serves and its views are back; it must not end before."""
        gives_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < gives_up:
            try:
                if self._heard.recv(4096) == b"READY=1":
                    return
            except TimeoutError:
                assert process.poll() is None, "the daemon ended"
        raise AssertionError("the daemon does not get ready")


@contextmanager
def managing() -> Iterator[Manager]:
    """Listen until the daemon has ended: it has something to say then, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as heard:
        heard.settimeout(0.1)
        heard.bind("")  # the kernel chooses a name, which no file has
        yield Manager(heard)
