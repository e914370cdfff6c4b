"""The system calls that Python 3.11 has no words for, each raising OSError as the os module would."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SLAVE = 0x8_0000

MNT_DETACH = 0x2

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def _check(result: int, path: str | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def unshare(flags: int) -> None:
    """Leave the namespaces that ``flags`` name for new ones; CLONE_NEWUSER needs a process of one thread."""
    _check(_libc.unshare(flags))


def mount(source: str, target: str, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount, bind, move or remount, as the second section of the manual says."""
    arguments = (source, target, kind, flags, options)
    _check(_libc.mount(*(os.fsencode(a) if isinstance(a, str) else a for a in arguments)), target)


def bind(source: str, target: str, *, recursive: bool = True) -> None:
    """Show ``source`` at ``target`` too, with everything mounted below it."""
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))


def unmount(target: str, flags: int = 0) -> None:
    """Take the topmost mount off ``target``."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def die_with_parent(parent: int, signal_number: int) -> None:
    """Have the kernel send ``signal_number`` to this process when its parent ends; exit if ``parent`` ended before."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)
