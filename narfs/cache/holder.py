"""Holder: one cache directory, one process. And how it ended last time.

The lock file says ``pid boot-id open`` while somebody holds it and ``pid boot-id clean`` after he let go. ``open``
with this boot's id means killed: the kernel kept all he wrote. ``open`` with another means a power cut (or a crash of
the kernel): writes may be missing in any order. Neither needs a repair (see the rules in ``narfs.cache``); the second
is worth telling, because chunks will now fail their check that are nobody's fault.

The lock goes with the last copy of its descriptor. Processes that this one *executes* get none; one that it forks would
hold the directory as long as it lives, so workers are executed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from narfs.cache.disk import Descriptor
from narfs.errors import CacheHeld, CacheUnusable

if TYPE_CHECKING:
    from narfs.cache.places import Places

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_STATE_MAX_BYTES: Final = 256


class Holder:
    """The right to use a cache directory. Blocking; ``acquire`` makes the directory, ``release`` marks a clean end."""

    def __init__(self, lock: Descriptor, *, power_cut: bool) -> None:
        self._lock = lock
        self.power_cut = power_cut
        """Whether the machine went down while the last holder was at work."""

    @classmethod
    def acquire(cls, places: Places) -> Holder:
        """Take the directory: CacheHeld if another process has it, CacheUnusable if it is another user's; OSError."""
        places.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = places.directory.stat()
        if status.st_uid != os.geteuid():
            raise CacheUnusable(f"cache {places.directory} belongs to user {status.st_uid}: choose another --cache-dir")
        if status.st_mode & 0o077:
            places.directory.chmod(0o700)
        lock = Descriptor(places.lock, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = _pid(lock.read(0, _STATE_MAX_BYTES))
            raise CacheHeld(f"cache {places.directory} is in use by process {pid or 'unknown'}", pid=pid) from error
        last = lock.read(0, _STATE_MAX_BYTES).split()
        boot_id = _boot_id()
        _write(lock, boot_id, b"open")
        return cls(lock, power_cut=len(last) == 3 and last[2] == b"open" and last[1] != boot_id)

    def release(self) -> None:
        """Mark the end as clean and let go."""
        try:
            _write(self._lock, _boot_id(), b"clean")
        finally:
            del self._lock  # closed with its last reference, and the lock goes with it


def _write(lock: Descriptor, boot_id: bytes, state: bytes) -> None:
    os.ftruncate(lock.fd, 0)
    lock.write(0, b"%d %s %s\n" % (os.getpid(), boot_id, state))
    os.fsync(lock.fd)


def _pid(state: bytes) -> int:
    words = state.split()
    return int(words[0]) if words and words[0].isdigit() else 0


def _boot_id() -> bytes:
    try:
        return _BOOT_ID.read_bytes().strip() or b"unknown"
    except OSError:  # no /proc: every unclean end then looks like a kill
        return b"unknown"
