"""What a process does to files, watched where it leaves Python: each write, rename, removal, sync and hole.

``watch`` is told of every call before and after it; writes are done in two halves (a short write, as POSIX allows), so
that there is a moment between them too. What it raises is what the call fails with. Reads are told of before only.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from narfs.cache import disk

if TYPE_CHECKING:
    from collections.abc import Callable


class Moment(NamedTuple):
    """``when`` is before, halfway or after; ``path`` is where it leads to, of a rename the new name."""

    call: str
    when: str
    path: str
    data: bytes | memoryview = b""


def install(watch: Callable[[Moment], None]) -> None:
    """Watch this process from now on."""
    os.pwrite = write = _writing(os.pwrite, watch)
    os.pwritev = lambda fd, buffers, offset: write(fd, b"".join(buffers), offset)  # type: ignore[assignment, misc]
    os.write = _writing(os.write, watch)
    os.fsync = _around(os.fsync, "sync", watch, _name)
    os.rename = _around(os.rename, "rename", watch, lambda _, target: os.fspath(target))
    os.unlink = os.remove = _around(os.unlink, "unlink", watch, os.fspath)
    os.open = _before(os.open, "open", watch, os.fspath)
    os.pread = _before(os.pread, "read", watch, _name)
    os.preadv = _before(os.preadv, "read", watch, _name)
    disk._fallocate = _punching(disk._fallocate, watch)  # type: ignore[misc]


def _name(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - a Path may open and read
    except OSError:
        return ""


def _writing(call: Any, watch: Callable[[Moment], None]) -> Any:
    def write(fd: int, data: Any, *offset: int) -> int:
        path = _name(fd)
        if not path.startswith("/"):  # a pipe, a socket, or what has no name
            return call(fd, data, *offset)  # type: ignore[no-any-return]
        with memoryview(data) as view:
            watch(Moment("write", "before", path, bytes(view[:64])))
            done: int = call(fd, view[: max(1, len(view) // 2)], *offset)
            watch(Moment("write", "halfway" if done < len(view) else "after", path, bytes(view[:64])))
        return done

    return write


def _around(call: Any, name: str, watch: Callable[[Moment], None], path_of: Callable[..., Any]) -> Any:
    def around(*arguments: Any, **named: Any) -> Any:
        path = str(path_of(*arguments))
        watch(Moment(name, "before", path))
        result = call(*arguments, **named)
        watch(Moment(name, "after", path))
        return result

    return around


def _before(call: Any, name: str, watch: Callable[[Moment], None], path_of: Callable[..., Any]) -> Any:
    def before(what: Any, *arguments: Any, **named: Any) -> Any:
        watch(Moment(name, "before", str(path_of(what))))
        return call(what, *arguments, **named)

    return before


def _punching(call: Any, watch: Callable[[Moment], None]) -> Any:
    def punch(fd: int, *arguments: int) -> int:
        path = _name(fd)
        try:
            watch(Moment("punch", "before", path))
        except OSError as error:
            ctypes.set_errno(error.errno or errno.EIO)
            return -1
        result: int = call(fd, *arguments)
        watch(Moment("punch", "after", path))
        return result

    return punch
