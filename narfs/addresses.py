"""How a process does where it may have only so many addresses: RLIMIT_AS, ``ulimit -v``, systemd's LimitAS=.

glibc takes 64 MiB of them for each thread that allocates, 128 for a moment, and 8 for its stack, whatever is used of
that: an idle mount had 262 MiB, and has 60 MiB so. What is asked for beyond the limit fails wherever that happens to
be, and neither the interpreter nor its event loop survives it everywhere: new work is begun while there is room.
"""

from __future__ import annotations

import ctypes
import mmap
import resource
import threading
from typing import Final

_ROOM_BYTES: Final = 3 * 1024 * 1024
"""The buffer of a request, a block of the interpreter's small objects, a thread and what a read unpacks."""

_STACK_BYTES: Final = 512 * 1024
"""As other systems have it by default."""

_GIVEN_BACK_BYTES: Final = 256 * 1024
"""Below what a request's buffer takes. By itself malloc(3) keeps what is of a size that was freed before."""

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""M_MMAP_THRESHOLD and M_ARENA_MAX of mallopt(3)."""


def are_limited() -> bool:
    """Say whether this process has a limit."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def spare_them() -> None:
    """Where they are limited, have threads that are made from now on share a heap and be content with small stacks."""
    if are_limited():
        threading.stack_size(_STACK_BYTES)
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has neither it nor these heaps
            libc.mallopt(_ARENA_MAX, 1)
            libc.mallopt(_MMAP_THRESHOLD, _GIVEN_BACK_BYTES)


def have_room() -> bool:
    """Say whether there is enough for a piece of work; 10 µs."""
    try:
        mmap.mmap(-1, _ROOM_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return False
    return True
