"""The metadata socket: a Nix daemon of which everything can be asked that is read, answered from narinfos.

Nix uses it as any store (``--store unix:///run/nix.sock``), and as the lower store of a ``local-overlay`` store, which
needs no database of what lies below then. Contents are not asked for here: Nix reads them from the mount.
"""

from __future__ import annotations

import logging
import socket
import stat
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from narfs import __version__
from narfs.daemon.nix_answers import answer
from narfs.daemon.unix_socket import listening_socket
from narfs.errors import FormatError, UsageError
from narfs.formats.worker_protocol import ServerConnection
from narfs.mount.mountpoint import ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from narfs.daemon.known_paths import KnownPaths
    from narfs.formats.worker_protocol import Request

log = logging.getLogger(__name__)

MESSAGE_DEADLINE_S = 30.0
"""Bounds the greeting, the sending of one request and the taking of one reply. Between requests a client may rest as
long as it likes: one below a build is silent for hours."""
CLIENTS_MAX = 256
"""Served at one time; more wait. A build's Nix holds one or two connections."""
_PART_BYTES = 64 * 1024


@asynccontextmanager
async def serving_nix(path: Path | None, known: KnownPaths, *, shared: bool) -> AsyncIterator[None]:
    """Answer at ``path`` while the block runs, everybody if ``shared``; None: nowhere.

    UsageError if the place cannot be used.
    """
    if path is None:
        yield
        return
    await ask(path, _make_sure_it_is_free)
    limit = trio.CapacityLimiter(CLIENTS_MAX)
    try:
        # A client must be able to write to a socket to connect to it.
        async with listening_socket(path, 0o666 if shared else 0o600) as listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, partial(_serve, known=known, limit=limit), [listener])
            yield
            nursery.cancel_scope.cancel()
    except OSError as error:
        raise UsageError(f"{path}: no socket can be made there: {error.strerror or error}") from error


def _make_sure_it_is_free(path: Path) -> None:
    """Refuse a place where something is that would be lost; the socket of a dead process may be replaced."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"{path}: is there, and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except OSError as error:
        raise UsageError(f"{path}: no socket can be made there: {error.strerror or error}") from error
    raise UsageError(f"{path}: another process answers there")


async def _serve(stream: trio.SocketStream, known: KnownPaths, limit: trio.CapacityLimiter) -> None:
    """Serve one client to its end; one that is slow, gone or talks nonsense costs nobody else anything."""
    connection = ServerConnection(f"narfs {__version__}")
    try:
        async with limit:
            while (request := await _receive(stream, connection)) is not None:
                reply = await answer(request, known)
                with trio.fail_after(MESSAGE_DEADLINE_S):
                    await stream.send_all(reply)
                if request.last:
                    return
    except FormatError as error:
        log.info("a client of the Nix socket was hung up on: %s", error)
    except trio.TooSlowError:
        log.info("a client of the Nix socket was too slow")
    except trio.BrokenResourceError:
        log.debug("a client of the Nix socket left before its answer")
    except Exception:
        log.exception("a bug: a client of the Nix socket was hung up on")  # the mount goes on
    finally:
        await trio.aclose_forcefully(stream)


async def _receive(stream: trio.SocketStream, connection: ServerConnection) -> Request | None:
    """Wait for a request; None when the client has gone."""
    with trio.CancelScope() as waiting:
        while (request := connection.next_request()) is None:
            if connection.idle:
                waiting.deadline = float("inf")
            else:
                waiting.deadline = min(waiting.deadline, trio.current_time() + MESSAGE_DEADLINE_S)
            await stream.send_all(connection.take_output())
            part = await stream.receive_some(_PART_BYTES)
            if not part:
                return None
            connection.feed(part)
        if greeting := connection.take_output():  # of a client that asked before it was answered
            await stream.send_all(greeting)
        return request
    raise trio.TooSlowError
