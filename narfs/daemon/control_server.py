"""The answering side of the control sockets."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from narfs.daemon.control import DEADLINE_S, REQUEST_MAX_BYTES, VERSION, kind_of
from narfs.daemon.unix_socket import listening_socket
from narfs.errors import NarfsError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

Do: TypeAlias = "Callable[[Mapping[str, Any]], Awaitable[object]]"

_PART_BYTES = 64 * 1024
_CLIENTS_MAX = 64
"""Connections served at once, of strangers, and of who may do all: they do not wait for strangers. More wait unread."""
_STRANGERS_MAX_BYTES = 64 * 1024
"""Of a request by somebody who may only look: 64 of them hold 4 MiB."""
_CREDENTIALS = struct.Struct("3i")
"""struct ucred of SO_PEERCRED: unix(7)."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a socket can be asked for. ``do`` takes the arguments, raises NarfsError, gives what JSON can hold."""

    do: Do
    for_everybody: bool = False
    """Also for users who may connect and are neither root nor the one this process runs as."""


@asynccontextmanager
async def listening(
    path: Path, operations: Mapping[str, Operation], *, mode: int = 0o600, group: int = -1
) -> AsyncIterator[None]:
    """Answer requests at ``path`` while the block runs; the socket is removed at the end."""
    async with listening_socket(path, mode, group) as listener, trio.open_nursery() as nursery:
        places = {may_do_all: trio.Semaphore(_CLIENTS_MAX) for may_do_all in (False, True)}
        serve = partial(_serve, operations=operations, places=places)
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield
        nursery.cancel_scope.cancel()


async def _serve(
    stream: trio.SocketStream, operations: Mapping[str, Operation], places: Mapping[bool, trio.Semaphore]
) -> None:
    """Answer one client; one that is slow, gone or talks nonsense costs nobody else anything."""
    try:
        may_do_all = _may_do_all(stream)
        async with places[may_do_all]:
            lines = _Lines(stream, REQUEST_MAX_BYTES if may_do_all else _STRANGERS_MAX_BYTES)
            while (line := await lines.next()) is not None:
                reply = await _reply(line, operations, lines.limit, may_do_all)
                # Shielded: ``unmount`` has just cancelled us, and its answer comes first.
                with trio.fail_after(DEADLINE_S, shield=True):
                    await stream.send_all(json.dumps({"version": VERSION, **reply}).encode() + b"\n")
                if len(line) > lines.limit:
                    return
    except trio.TooSlowError:
        log.debug("a control client was too slow")
    except trio.BrokenResourceError:
        log.debug("a control client left before its answer")
    finally:
        await trio.aclose_forcefully(stream)


class _Lines:
    """What a client says, line by line, each within the deadline."""

    def __init__(self, stream: trio.SocketStream, limit: int) -> None:
        self.limit = limit
        self._stream = stream
        self._heard = bytearray()

    async def next(self) -> bytes | None:
        """Give a line, at most one byte longer than allowed; None at the end. TooSlowError."""
        with trio.fail_after(DEADLINE_S):
            searched = 0
            while (end := self._heard.find(b"\n", searched)) < 0 and len(self._heard) <= self.limit:
                searched = len(self._heard)
                part = await self._stream.receive_some(_PART_BYTES)
                if not part:
                    return bytes(self._heard) or None
                self._heard += part
        length = self.limit + 1 if end < 0 else end + 1
        line = bytes(self._heard[:length])
        del self._heard[:length]
        return line


def _may_do_all(stream: trio.SocketStream) -> bool:
    told = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(told)
    return user in (0, os.geteuid())


async def _reply(line: bytes, operations: Mapping[str, Operation], limit: int, may_do_all: bool) -> dict[str, object]:
    try:
        operation, arguments = _request_in(line, operations, limit, may_do_all)
        return {"answer": await operation.do(arguments)}
    except NarfsError as error:
        return {"error": str(error), "kind": kind_of(error)}
    except UnicodeEncodeError:
        return {"error": "half of a surrogate pair is no text", "kind": kind_of(UsageError())}
    except Exception:
        log.exception("a bug in narfs")
        return {"error": "a bug in narfs; its log tells more", "kind": "failed"}


def _request_in(
    line: bytes, operations: Mapping[str, Operation], limit: int, may_do_all: bool
) -> tuple[Operation, Mapping[str, Any]]:
    """Read a request; UsageError if it is none, or none for whoever asks."""
    if len(line) > limit:
        raise UsageError(f"a request is at most {limit} bytes")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError("not a line of JSON") from error
    if not isinstance(request, dict) or request.get("version") != VERSION:
        raise UsageError(f"this narfs speaks version {VERSION}")
    name, arguments = str(request.get("operation")), request.get("arguments", {})
    if (operation := operations.get(name)) is None:
        raise UsageError(f"unknown operation; known are {', '.join(sorted(operations))}")
    if not isinstance(arguments, dict):
        raise UsageError("arguments: expected an object")
    if not may_do_all and not operation.for_everybody:
        raise UsageError(f"{name}: only for root and the user whose daemon this is")
    return operation, arguments
