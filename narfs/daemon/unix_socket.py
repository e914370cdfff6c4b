"""A listening Unix socket, from the moment it answers until its owner goes.

Its directory may be in a View of ours by mistake, or below an overlay on one: only threads look there.
"""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_BACKLOG = 64

_numbers = itertools.count()
"""Several sockets that differ in their suffixes only may be made at once."""


@asynccontextmanager
async def listening_socket(path: Path, mode: int, group: int = -1) -> AsyncIterator[trio.SocketListener]:
    """Listen at ``path``, in place of what is there, and remove it at the end. OSError if that cannot be.

    ``group`` is the one that the group's part of ``mode`` is about; -1: the process's own.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        ours = await trio.to_thread.run_sync(_show, listener, path, mode, group)
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_hide, path, ours)


def _show(listener: socket.socket, path: Path, mode: int, group: int) -> int:
    """Give its inode."""
    unborn = path.with_suffix(f".{next(_numbers) % 10_000}")
    unborn.unlink(missing_ok=True)
    listener.bind(os.fspath(unborn))
    try:
        listener.listen(_BACKLOG)
        os.chown(unborn, -1, group)
        unborn.chmod(mode)
        # Visible only now: whoever is refused by a socket takes its process for dead and removes it.
        unborn.rename(path)
    except BaseException:
        unborn.unlink()
        raise
    return path.lstat().st_ino


def _hide(path: Path, inode: int) -> None:
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()
