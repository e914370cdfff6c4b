"""A listening Unix socket, from the moment it answers until its owner goes.

Its directory may be in a View of ours by mistake, below an overlay on one, or of a file system that hangs: only threads
look there, and none is waited for longer than ``ask`` does.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from narfs.errors import UsageError
from narfs.mount.mountpoint import ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_log = logging.getLogger(__name__)

_BACKLOG = 64
_PATH_MAX_BYTES = 107
"""unix(7). Nobody could connect to one with a longer path."""


@asynccontextmanager
async def listening_socket(path: Path, mode: int, group: int = -1) -> AsyncIterator[trio.SocketListener]:
    """Listen at ``path``, in place of what is there, and remove it at the end.

    OSError if that cannot be; UsageError if the file system does not answer. ``group`` is the one that the group's part
    of ``mode`` is about; -1: the process's own.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        ours = await ask(path, partial(_show, listener, mode, group))
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await ask(path, partial(_hide, ours))
                except (OSError, UsageError) as error:
                    _log.warning("a socket is left behind: %s", error)


def _show(listener: socket.socket, mode: int, group: int, path: Path) -> int:
    """Give its inode."""
    if len(os.fsencode(path)) > _PATH_MAX_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"a socket's path has at most {_PATH_MAX_BYTES} bytes")
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        # A name that nobody has, so that nothing of anybody is removed; and a way to it that is short enough.
        unborn = Path(f"/proc/self/fd/{directory}/.narfs-{secrets.token_hex(8)}")
        listener.bind(os.fspath(unborn))
        try:
            listener.listen(_BACKLOG)
            os.chown(unborn, -1, group)
            unborn.chmod(mode)
            listener.getsockname()  # OSError: nobody waits for it any more, and another may have the place
            # Visible only now: whoever is refused by a socket takes its process for dead and removes it.
            unborn.rename(path)
        except BaseException:
            unborn.unlink()
            raise
    finally:
        os.close(directory)
    return path.lstat().st_ino


def _hide(inode: int, path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()
