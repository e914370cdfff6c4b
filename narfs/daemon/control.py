"""The control socket of a mount process: what is said on it, and the asking side.

One request per line, one answer per line, JSON both ways::

    → {"version": 1, "operation": "status"}
    ← {"version": 1, "answer": {…}}   or   {"version": 1, "error": "one line"}

Operations: ``status``, ``registration`` (of a closed View) and ``unmount``; the answer to ``unmount`` comes before the
unmounting begins. Sockets have mode 0600 in the user's own runtime directory and are named after mountpoint and
process, so that a client finds those of a mountpoint without asking everybody. This side blocks: commands start without
an event loop.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any

from narfs.errors import TooSlow, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
REQUEST_MAX_BYTES = 64 * 1024
ANSWER_MAX_BYTES = 16 * 1024 * 1024
"""Bounds what a stranger behind a socket can make us hold; a status is some kilobytes."""
DEADLINE_S = 10.0
"""Bounds one request and its answer; no operation has work in it that could take longer."""
_PATH_MAX_BYTES = 107
"""sun_path holds 108 with its final zero: unix(7)."""


def socket_path(directory: Path, mountpoint: str, pid: int) -> Path:
    """Name the socket of process ``pid``; a mountpoint's mark is short because a socket's path is."""
    path = directory / f"{_mark(mountpoint)}-{pid}.sock"
    if len(os.fsencode(path)) > _PATH_MAX_BYTES:
        raise Unavailable(f"{path}: too long for a socket's path; set a shorter XDG_RUNTIME_DIR")
    return path


def pid_of(path: Path) -> int:
    """Read the process from a socket's name."""
    return int(path.stem.partition("-")[2])


def _mark(mountpoint: str) -> str:
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]


def ask(path: Path, operation: str) -> Any:
    """Have the process behind the socket do ``operation``; Unavailable or TooSlow if it does not answer.

    The socket of a dead process is removed: ConnectionRefusedError says that nobody listens there any more.
    """
    request = json.dumps({"version": VERSION, "operation": operation}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(DEADLINE_S)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(request)
            answer = _read_line(connection)
        except TimeoutError as error:
            raise TooSlow(f"{path}: no answer within {DEADLINE_S:.0f} s") from error
        except ConnectionRefusedError as error:
            path.unlink(missing_ok=True)
            raise Unavailable(f"{path}: its process is gone") from error
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error
    return _answer_in(answer, path)


def _read_line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and (part := connection.recv(64 * 1024)):
        line += part
        if len(line) > ANSWER_MAX_BYTES:
            break
    return bytes(line)


def _answer_in(line: bytes, path: Path) -> Any:
    try:
        reply = json.loads(line)
    except ValueError as error:
        raise Unavailable(f"{path}: its process ended while it answered") from error
    if not isinstance(reply, dict) or reply.get("version") != VERSION:
        raise Unavailable(f"{path}: answers in another version of the protocol; unmount it with the narfs that made it")
    if "error" in reply:
        raise Unavailable(f"{path}: {reply['error']}")
    return reply.get("answer")


def sockets(directory: Path, mountpoint: str | None = None) -> list[Path]:
    """Find the sockets of ``mountpoint``, or all; some may be of dead processes."""
    pattern = "*" if mountpoint is None else _mark(mountpoint)
    return sorted(directory.glob(f"{pattern}-*.sock"))
