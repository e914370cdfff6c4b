"""The answering side of the control socket."""

from __future__ import annotations

import json
import logging
import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from narfs.daemon.control import DEADLINE_S, REQUEST_MAX_BYTES, VERSION, socket_path
from narfs.daemon.directories import private_directory
from narfs.daemon.unix_socket import listening_socket
from narfs.errors import NarfsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

_PART_BYTES = 4096


@asynccontextmanager
async def listening(
    directory: Path, mountpoint: str, operations: Mapping[str, Callable[[], object]]
) -> AsyncIterator[Path]:
    """Answer requests while the block runs; gives the socket's path, which is removed at the end.

    An operation answers at once, with a value that JSON can hold; what takes time it only sets in motion.
    """
    path = socket_path(private_directory(directory), mountpoint, os.getpid())
    async with listening_socket(path, 0o600) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(_answer, operations=operations), [listener])
        yield path
        nursery.cancel_scope.cancel()


async def _answer(stream: trio.SocketStream, operations: Mapping[str, Callable[[], object]]) -> None:
    """Answer one request; a peer that is slow, gone or talks nonsense costs nobody else anything."""
    try:
        with trio.fail_after(DEADLINE_S):
            request = await _read_line(stream)
        reply = _reply(request, operations)
        # Shielded: ``unmount`` has just cancelled us, and its answer comes first.
        with trio.fail_after(DEADLINE_S, shield=True):
            await stream.send_all(json.dumps({"version": VERSION, **reply}).encode() + b"\n")
    except trio.TooSlowError:
        log.debug("a control client was too slow")
    except trio.BrokenResourceError:
        log.debug("a control client left before its answer")
    finally:
        await trio.aclose_forcefully(stream)


async def _read_line(stream: trio.SocketStream) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and len(line) <= REQUEST_MAX_BYTES:
        part = await stream.receive_some(_PART_BYTES)
        if not part:
            break
        line += part
    return bytes(line)


def _reply(line: bytes, operations: Mapping[str, Callable[[], object]]) -> dict[str, object]:
    if len(line) > REQUEST_MAX_BYTES:
        return {"error": f"a request is at most {REQUEST_MAX_BYTES} bytes"}
    try:
        request = json.loads(line)
    except ValueError:
        return {"error": "not a line of JSON"}
    if not isinstance(request, dict) or request.get("version") != VERSION:
        return {"error": f"this narfs speaks version {VERSION}"}
    operation = operations.get(str(request.get("operation")))
    if operation is None:
        return {"error": f"unknown operation; known are {', '.join(sorted(operations))}"}
    try:
        return {"answer": operation()}
    except NarfsError as error:
        return {"error": str(error)}
