"""The system calls of a process that has all it needs open: it computes, and reads and writes what it has.

A program for the kernel, which looks at the number of each call and lets those of a list through: seccomp(2). All
others fail with EPERM: those that open, look up or make anything, connect, start a program, or touch another process.
Threads that are made later are bound by it too. It cannot be taken back.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final, NamedTuple

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_EPERM: Final = 1
_ENOSYS: Final = 38

_ALLOW: Final = 0x7FFF_0000
_FAIL: Final = 0x0005_0000
"""And the errno."""
_KILL: Final = 0x8000_0000

_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
"""Of what the kernel calls classic BPF: load a word of the call; compare it, and skip so many steps; decide."""
_STEP: Final = struct.Struct("=HBBI")
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16
"""Where they are in the call; of an argument, 8 bytes, the lower half comes first."""

_PROT_EXEC: Final = 4
_CLONE_THREAD: Final = 0x10000

# Of x86-64 and of aarch64, as <asm/unistd.h> has them.
_LET_THROUGH: Final = {
    "read": (0, 63),
    "readv": (19, 65),
    "write": (1, 64),
    "writev": (20, 66),
    "pwrite64": (18, 68),
    "close": (3, 57),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "gettid": (186, 178),
    "getpid": (39, 172),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "getrandom": (318, 278),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_UNLESS_EXECUTABLE: Final = {"mmap": (9, 222), "mprotect": (10, 226)}
_CLONE: Final = (56, 220)
_CLONE3: Final = 435
"""Its flags are in memory, where the program cannot look: libc takes ENOSYS for an old kernel, and uses clone."""


class _Machine(NamedTuple):
    column: int
    known_as: int
    """In a call, so that one by the numbers of another machine is told apart."""


_MACHINES: Final = {"x86_64": _Machine(0, 0xC000_003E), "aarch64": _Machine(1, 0xC000_00B7)}


class _Program(ctypes.Structure):
    _fields_ = (("steps", ctypes.c_ushort), ("code", ctypes.c_char_p))


def confine() -> str | None:
    """Let this process make no other calls from now on; give why that cannot be, if so.

    For a process with one thread as yet, that has NO_NEW_PRIVS (``privileges``).
    """
    name, bits = platform.machine(), 8 * struct.calcsize("P")  # a program of 32 bits has other numbers
    if (machine := _MACHINES.get(name)) is None or bits != 64:
        return f"narfs does not know the system calls of {name} with {bits} bits"
    code = _code(machine)
    program = _Program(len(code) // _STEP.size, code)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program), 0, 0) != 0:
        return f"seccomp: {os.strerror(ctypes.get_errno())}"
    return None


def _code(machine: _Machine) -> bytes:
    steps = [
        (_LOAD, 0, 0, _MACHINE),
        (_IF_EQUAL, 1, 0, machine.known_as),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for numbers in _LET_THROUGH.values():
        steps += _on(numbers[machine.column], (_RETURN, 0, 0, _ALLOW))
    for numbers in _UNLESS_EXECUTABLE.values():
        steps += _on(numbers[machine.column], *_by_argument(2, _PROT_EXEC, if_set=_FAIL | _EPERM, otherwise=_ALLOW))
    steps += _on(_CLONE[machine.column], *_by_argument(0, _CLONE_THREAD, if_set=_ALLOW, otherwise=_FAIL | _EPERM))
    steps += _on(_CLONE3, (_RETURN, 0, 0, _FAIL | _ENOSYS))
    steps.append((_RETURN, 0, 0, _FAIL | _EPERM))
    return b"".join(_STEP.pack(*step) for step in steps)


def _on(number: int, *then: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    return [(_IF_EQUAL, 0, len(then), number), *then]


def _by_argument(place: int, bit: int, *, if_set: int, otherwise: int) -> list[tuple[int, int, int, int]]:
    return [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * place),
        (_IF_ANY_BIT, 0, 1, bit),
        (_RETURN, 0, 0, if_set),
        (_RETURN, 0, 0, otherwise),
    ]
