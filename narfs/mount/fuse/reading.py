"""Reading what the kernel asks, without ever waiting for it there.

pyfuse3 waits until its descriptor is readable and reads it then, as if a request could not go again. It can: whoever
asked is killed before his request is read, or wants to give up a read that is answered first. libfuse then waits in
the kernel for the next request, whoever that may come from, and holds the interpreter's lock meanwhile: no timer, no
socket and no thread of this process goes on. So the descriptor is made to say that there is nothing, and a task that
takes this for a failure begins again.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyfuse3
import trio

from narfs import addresses
from narfs.errors import UsageError

_DEVICE: Final = os.makedev(10, 229)
"""/dev/fuse, wherever it is: devices.txt of the kernel."""

_WITHOUT_MEMORY_S: Final = 1.0
"""Each of these tasks has begun another, up to 2048, that asks as well: a request waits for about a millisecond."""

_WITHOUT_ROOM_S: Final = 0.1
"""Of requests that wait for room one is taken each time: those under way may be waiting for a store."""

_LOOKS_S: Final = 0.01

_loop: Final = getattr(pyfuse3, "_session_loop", None)
_asked: Final = getattr(pyfuse3, "_wait_fuse_readable", None)
"""It has no other doors. Releases that were looked at are those that pyproject.toml allows."""


def require_known() -> None:
    """Raise UsageError if pyfuse3 is one that can wait in the kernel whatever is done here."""
    if _loop is None or _asked is None:
        raise UsageError(f"pyfuse3 {pyfuse3.__version__}: narfs knows 3.4 and 3.5 only; pip install 'pyfuse3<3.6'")


def never_wait() -> None:
    """Make what reads requests of FUSE sessions in this process wait in its event loop only."""
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was the listing's
            if os.fstat(int(each.name)).st_rdev == _DEVICE:
                os.set_blocking(int(each.name), False)
    pyfuse3._session_loop = _patient_loop  # type: ignore[attr-defined]  # noqa: SLF001
    if addresses.are_limited():
        pyfuse3._wait_fuse_readable = _Admission().wait  # type: ignore[attr-defined]  # noqa: SLF001


class _Admission:
    """Leaves requests with the kernel while there is no room to answer them."""

    def __init__(self) -> None:
        self._at_latest = 0.0

    async def wait(self) -> bool:
        """Wait for a request, which the caller reads at once, and for room. False: the session ends."""
        while await _asked():  # type: ignore[misc]  # it was required
            if addresses.have_room() or trio.current_time() >= self._at_latest:
                self._at_latest = trio.current_time() + _WITHOUT_ROOM_S
                return True
            await trio.sleep(_LOOKS_S)
        return False


async def _patient_loop(*arguments: Any) -> None:
    """Do what a task of pyfuse3 does; each time there is nothing, it loses a buffer: 4 KiB, and 1 MiB of addresses.

    Where there is no memory for the buffer of a request, it waits for some: the request stays with the kernel.
    """
    while True:
        try:
            await _loop(*arguments)  # type: ignore[misc]  # it was required
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            await trio.sleep(_WITHOUT_MEMORY_S)
        else:
            return
