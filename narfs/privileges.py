"""What a process may do beyond what its user may: no more than it needs, for good.

Capabilities are a thread's: this is for processes that have one thread as yet. With NO_NEW_PRIVS nothing they start has
more than they have, neither a setuid program nor, where the user is root, any other.
"""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntEnum
from typing import Final

_VERSION_3: Final = 0x2008_0522
_PR_SET_NO_NEW_PRIVS: Final = 38
_HEADER: Final = struct.Struct("=Ii")
_SETS: Final = struct.Struct("=6I")
"""Effective, permitted and inheritable, the lower 32 of each first: capset(2)."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


class Capability(IntEnum):
    """Those that narfs has a use for: capabilities(7)."""

    DAC_READ_SEARCH = 2
    """Reach a mountpoint below directories of others, and read a file:// store that is theirs."""
    SYS_ADMIN = 21
    """Mount, and unmount at the end."""


def keep_only(*needed: Capability) -> None:
    """Give up all capabilities but these, of those that there are. OSError."""
    header, sets = ctypes.create_string_buffer(_HEADER.pack(_VERSION_3, 0)), ctypes.create_string_buffer(_SETS.size)
    _check(_libc.capget(header, sets))
    wanted = sum(1 << capability for capability in needed)
    permitted = _SETS.unpack(sets.raw)[1] & wanted
    _check(_libc.capset(header, _SETS.pack(permitted, permitted, 0, 0, 0, 0)))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
