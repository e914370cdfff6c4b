"""A file or directory of this machine as NAR bytes. Blocking: run it in a thread.

Of metadata only what a NAR holds is taken: kind, the owner's executable bit, contents, symlink target. A symlink is
never followed. What is no file, directory or symlink cannot be pushed; what changes while it is read is noticed where
the size tells, and otherwise by the NarHash that push compares.
"""

from __future__ import annotations

import os
import stat
from contextlib import closing
from typing import TYPE_CHECKING

from narfs.errors import FormatError, Unavailable, UsageError
from narfs.formats.nar import NarWriter

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_READ_BYTES = 1024 * 1024
HOP_BYTES = 1024 * 1024
"""Work of one thread hop: 76 µs of hopping against at least 2 ms of reading, hashing and compressing."""


def dump(root: bytes) -> Generator[bytes]:
    """Give the NAR of what is at ``root``, in pieces of up to 1 MiB; close the generator if it is not exhausted.

    UsageError names what cannot be read or put into a NAR, Unavailable what changed while it was read.
    """
    writer = NarWriter()
    try:
        yield from _node(writer, b"", root, stat.S_IFMT(os.lstat(root).st_mode))
    except OSError as error:
        path = root if error.filename is None else error.filename
        raise UsageError(f"{_shown(path)}: cannot be read: {error.strerror}") from error
    except FormatError as error:
        raise UsageError(f"{_shown(root)}: no NAR can hold it: {error}") from error
    yield writer.finish()


def dump_hops(root: Path) -> Generator[bytes]:
    """Give the same in pieces of at least HOP_BYTES, the last one excepted: framing and small files joined."""
    batch, size = [], 0
    with closing(dump(os.fsencode(root))) as pieces:
        for piece in pieces:
            batch.append(piece)
            size += len(piece)
            if size >= HOP_BYTES:
                yield b"".join(batch)
                batch, size = [], 0
    if size:
        yield b"".join(batch)


def _node(writer: NarWriter, name: bytes, path: bytes, kind: int) -> Generator[bytes]:
    if kind == stat.S_IFREG:
        yield from _regular(writer, name, path)
    elif kind == stat.S_IFDIR:
        yield writer.enter(name)
        with os.scandir(path) as entries:
            children = sorted((child.name, child.path, _kind(child)) for child in entries)
        for child in children:
            yield from _node(writer, *child)
        yield writer.leave()
    elif kind == stat.S_IFLNK:
        yield writer.symlink(name, os.readlink(path))  # noqa: PTH115 - names are bytes, and pathlib has none
    else:
        raise UsageError(f"{_shown(path)}: neither file, directory nor symlink; a NAR cannot hold it")


def _kind(entry: os.DirEntry[bytes]) -> int:
    """Of which kind it is; its directory tells, without asking the disk once more."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFLNK if entry.is_symlink() else 0


def _regular(writer: NarWriter, name: bytes, path: bytes) -> Generator[bytes]:
    # Not open(): its objects cost as much again as the calls below. A file that became a pipe must not be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unavailable(f"{_shown(path)}: was replaced while it was read; push it when nothing writes to it")
        left = status.st_size
        yield writer.regular(name, bool(status.st_mode & stat.S_IXUSR), left)
        while left:
            piece = os.read(descriptor, min(left, _READ_BYTES))
            if not piece:
                raise Unavailable(
                    f"{_shown(path)}: became shorter while it was read; push it when nothing writes to it"
                )
            left -= len(piece)
            yield piece
    finally:
        os.close(descriptor)


def _shown(path: str | bytes) -> str:
    return os.fsdecode(path).encode(errors="backslashreplace").decode()
