"""A file or directory of this machine as NAR bytes. Blocking: run it in a thread.

Of metadata only what a NAR holds is taken: kind, the owner's executable bit, contents, symlink target. A symlink is
never followed. What is no file, directory or symlink cannot be pushed; what changes while it is read is noticed where
the size tells, and otherwise by the NarHash that push compares.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from narfs.errors import FormatError, Unavailable, UsageError
from narfs.formats.nar import NarWriter

if TYPE_CHECKING:
    from collections.abc import Generator

_READ_BYTES = 1024 * 1024


def dump(root: bytes) -> Generator[bytes]:
    """Give the NAR of what is at ``root``, in pieces of up to 1 MiB; close the generator if it is not exhausted.

    UsageError names what cannot be read or put into a NAR, Unavailable what changed while it was read.
    """
    writer = NarWriter()
    try:
        yield from _node(writer, b"", root)
    except OSError as error:
        path = root if error.filename is None else error.filename
        raise UsageError(f"{_shown(path)}: cannot be read: {error.strerror}") from error
    except FormatError as error:
        raise UsageError(f"{_shown(root)}: no NAR can hold it: {error}") from error
    yield writer.finish()


def _node(writer: NarWriter, name: bytes, path: bytes) -> Generator[bytes]:
    kind = os.lstat(path)
    if stat.S_ISDIR(kind.st_mode):
        yield writer.enter(name)
        for child in sorted(os.listdir(path)):  # noqa: PTH208 - names are bytes, and pathlib has none
            yield from _node(writer, child, path + b"/" + child)
        yield writer.leave()
    elif stat.S_ISREG(kind.st_mode):
        yield from _regular(writer, name, path)
    elif stat.S_ISLNK(kind.st_mode):
        yield writer.symlink(name, os.readlink(path))  # noqa: PTH115 - likewise
    else:
        raise UsageError(f"{_shown(path)}: neither file, directory nor symlink; a NAR cannot hold it")


def _regular(writer: NarWriter, name: bytes, path: bytes) -> Generator[bytes]:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - bytes path: not every name is UTF-8
        status = os.fstat(file.fileno())
        left = status.st_size
        yield writer.regular(name, bool(status.st_mode & stat.S_IXUSR), left)
        while left:
            piece = file.read(min(left, _READ_BYTES))
            if not piece:
                raise Unavailable(
                    f"{_shown(path)}: became shorter while it was read; push it when nothing writes to it"
                )
            left -= len(piece)
            yield piece


def _shown(path: str | bytes) -> str:
    return os.fsdecode(path).encode(errors="backslashreplace").decode()
