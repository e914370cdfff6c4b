"""A listening Unix socket, from the moment it answers until its owner goes."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_BACKLOG = 64


@asynccontextmanager
async def listening_socket(path: Path, mode: int, group: int = -1) -> AsyncIterator[trio.SocketListener]:
    """Listen at ``path``, in place of what is there, and remove it at the end. OSError if that cannot be.

    ``group`` is the one that the group's part of ``mode`` is about; -1: the process's own.
    """
    unborn = path.with_suffix(".new")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Not waiting in between: another socket to be may have the same name until it is shown.
        _hide(unborn)
        listener.bind(os.fspath(unborn))
        listener.listen(_BACKLOG)
        # Visible only now: whoever is refused by a socket takes its process for dead and removes it.
        os.chown(unborn, -1, group)
        ours = _show(unborn, path, mode)
        try:
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        finally:
            if _inode(path) == ours:
                _hide(path)


def _show(unborn: Path, path: Path, mode: int) -> int | None:
    unborn.chmod(mode)
    unborn.rename(path)
    return _inode(path)


def _hide(path: Path) -> None:
    path.unlink(missing_ok=True)


def _inode(path: Path) -> int | None:
    return path.lstat().st_ino if path.exists() else None
