"""The control sockets: what is said on them, and the asking side.

One request per line, one answer per line, JSON both ways; a connection may carry many requests, one after the other::

    → {"version": 1, "operation": "status"}
    ← {"version": 1, "answer": {…}}   or   {"version": 1, "error": "one line", "kind": "usage"}
    → {"version": 1, "operation": "view-remove", "arguments": {"name": "build-17"}}

``kind`` is ``usage`` if the request asks for something impossible, ``missing`` if what it names is not there, else
``failed``. The operations of a mount are ``status``, ``registration`` (of a closed View) and ``unmount``, whose answer
comes before the unmounting begins; those of a daemon are in ``views``. docs/configuration.md has them all.

A mount's socket has mode 0600 in the user's own runtime directory and is named after mountpoint and process, so that a
client finds those of a mountpoint without asking everybody; the daemon's is ``control.sock``. This side blocks:
commands start without an event loop.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from narfs.errors import NarfsError, NotFound, TooSlow, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION: Final = 1
REQUEST_MAX_BYTES: Final = 16 * 1024 * 1024
"""A View of 100 000 paths is named in 8 MB."""
ANSWER_MAX_BYTES: Final = 64 * 1024 * 1024
"""Bounds what a stranger behind a socket can make us hold; a status is some kilobytes, a report some bytes a file."""
DEADLINE_S: Final = 10.0
"""Bounds the transfer of a request and its answer, and any operation that has no work in it."""
DAEMON_SOCKET: Final = "control.sock"
_PATH_MAX_BYTES: Final = 107
"""sun_path holds 108 with its final zero: unix(7)."""
_KINDS: Final = {"usage": UsageError, "missing": NotFound}


def kind_of(error: NarfsError) -> str:
    """Say to the other side what kind of failure it is."""
    return next((kind for kind, of in _KINDS.items() if isinstance(error, of)), "failed")


def socket_path(directory: Path, mountpoint: str, pid: int) -> Path:
    """Name the socket of process ``pid``; a mountpoint's mark is short because a socket's path is."""
    return checked(directory / f"{_mark(mountpoint)}-{pid}.sock")


def checked(path: Path) -> Path:
    """Give a socket's path back; Unavailable if it is too long for one."""
    if len(os.fsencode(path)) > _PATH_MAX_BYTES:
        raise Unavailable(f"{path}: too long for a socket's path; set a shorter XDG_RUNTIME_DIR")
    return path


def pid_of(path: Path) -> int:
    """Read the process from a socket's name."""
    return int(path.stem.partition("-")[2])


def _mark(mountpoint: str) -> str:
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]


def ask(
    path: Path, operation: str, arguments: Mapping[str, object] | None = None, *, deadline_s: float = DEADLINE_S
) -> Any:
    """Have the process behind the socket do ``operation``; raises as it failed there.

    Unavailable or TooSlow if it does not answer; the socket of a dead process is removed: ConnectionRefusedError says
    that nobody listens there any more.
    """
    said = {"version": VERSION, "operation": operation, **({"arguments": arguments} if arguments else {})}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(deadline_s)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(json.dumps(said).encode() + b"\n")
            answer = _read_line(connection)
        except TimeoutError as error:
            raise TooSlow(f"{path}: no answer within {deadline_s:.0f} s") from error
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
        raise Unavailable(f"{path}: answers in another version of the protocol; end it with the narfs that began it")
    if "error" in reply:
        kind = _KINDS.get(str(reply.get("kind")))
        raise Unavailable(f"{path}: {reply['error']}") if kind is None else kind(str(reply["error"]))
    return reply.get("answer")


def sockets(directory: Path, mountpoint: str | None = None) -> list[Path]:
    """Find the sockets of ``mountpoint``, or of all mounts; some may be of dead processes."""
    pattern = "*" if mountpoint is None else _mark(mountpoint)
    return sorted(directory.glob(f"{pattern}-*.sock"))
