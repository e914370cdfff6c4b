"""What the cache needs of the file system and Python's ``os`` does not offer in this shape. All of it blocks."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Failures that say nothing about the file."""

_IOV_MAX: Final = 1024
"""Buffers that Linux takes at once."""

_TRIAL_BYTES: Final = 256 * 1024

_FALLOC_FL_KEEP_SIZE: Final = 1
_FALLOC_FL_PUNCH_HOLE: Final = 2
_fallocate: Final = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]


class Descriptor:
    """An open file, closed when its last reference goes: a thread in the middle of a read keeps it open."""

    __slots__ = ("fd",)

    def __init__(self, path: str | Path, flags: int) -> None:
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)

    def fill_nowait(self, start: int, length: int, scratch: memoryview) -> memoryview | None:
        """Read what is in the page cache, all of it, into the beginning of ``scratch``; None if it is not all there."""
        buffer = scratch[:length]
        try:
            if os.preadv(self.fd, [buffer], start, os.RWF_NOWAIT) != length:
                return None
        except OSError:  # BlockingIOError: not in memory. Anything else will meet the reader that may wait.
            return None
        return buffer

    def read_nowait(self, start: int, length: int, scratch: memoryview) -> bytes | None:
        """Give bytes that are in the page cache, all of them or None.

        Through ``scratch`` 10.4 µs for 128 KiB; a fresh bytearray, copied to bytes, takes 12.9 (4.8 for a pread that
        may block).
        """
        buffer = self.fill_nowait(start, length, scratch)
        return None if buffer is None else bytes(buffer)

    def read(self, start: int, length: int) -> bytes:
        """Read ``length`` bytes, fewer at the end of the file."""
        data = os.pread(self.fd, length, start)
        while 0 < len(data) < length and (more := os.pread(self.fd, length - len(data), start + len(data))):
            data += more
        return data

    def write(self, start: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data`` at ``start``."""
        left = memoryview(data)
        while left:
            written = os.pwrite(self.fd, left, start)
            left, start = left[written:], start + written

    def write_all(self, start: int, buffers: Sequence[bytes | memoryview]) -> None:
        """Write all of some buffers, one behind the other, at ``start``; mostly with one call."""
        written = os.pwritev(self.fd, buffers[:_IOV_MAX], start)
        for data in buffers:
            if written < len(data):
                self.write(start + written, memoryview(data)[written:])
            start, written = start + len(data), max(0, written - len(data))

    def punch(self, start: int, length: int) -> None:
        """Give the blocks of a span back to the disk; it reads as zeros from now on. OSError if unsupported."""
        if _fallocate(self.fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, start, length):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def allocated_bytes(self) -> int:
        """Tell what the file takes on disk."""
        return os.fstat(self.fd).st_blocks * 512


def offers_nowait(directory: Path) -> bool:
    """Try whether RWF_NOWAIT works here: not on tmpfs, overlayfs and others."""
    path = directory / "nowait"
    probe = Descriptor(path, os.O_RDWR | os.O_CREAT)
    try:
        probe.write(0, b"?")
        os.preadv(probe.fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        return True
    finally:
        path.unlink()


def try_write(path: Path) -> None:
    """Write a file of a chunk's size to the device and remove it; OSError."""
    try:
        _write_file(path, bytes(_TRIAL_BYTES), durable=True)
    finally:
        remove_files([path])


def replace_file(path: Path, data: bytes | bytearray | memoryview, unfinished: Path, *, durable: bool) -> None:
    """Make ``path`` contain ``data``, at once or not at all; ``durable`` also after a power cut.

    ``unfinished`` is a name of the same file system where nobody minds what a killed process leaves.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        _write_file(unfinished, data, durable=durable)
        unfinished.rename(path)
    except OSError:
        remove_files([unfinished])
        raise


def _write_file(path: Path, data: bytes | bytearray | memoryview, *, durable: bool) -> None:
    file = Descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    file.write(0, data)
    if durable:
        os.fsync(file.fd)


def remove_files(paths: Iterable[Path]) -> None:
    """Remove what can be removed; what cannot is in nobody's way in ``scratch``."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove what is at ``path``, whatever it is, as far as that is possible; a symlink, not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        remove_files([path])


def free_bytes(directory: Path) -> int:
    """Tell what an unprivileged writer may still take of the disk: 2 µs."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize
