"""Who a View ends with: a process that may die, or a lease that somebody has to renew."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import trio

from narfs.daemon.views.spec import started
from narfs.errors import OwnerGone

if TYPE_CHECKING:
    from narfs.daemon.views.spec import ViewSpec


_NO_PROCESS: Final = (errno.ESRCH, errno.EINVAL, errno.ENOENT)
"""The last two, by the age of the kernel, of a number that a thread has: pidfd_open(2)."""


class Owner:
    """Watches for one View; without process and lease it never ends."""

    def __init__(self, spec: ViewSpec) -> None:
        """Begin to watch; OwnerGone if the process is gone already."""
        self._lease_s = spec.lease_s
        self._scope = trio.CancelScope()
        self._pidfd = None
        if spec.owner_pid is not None:
            try:
                self._pidfd = os.pidfd_open(spec.owner_pid)
            except (OSError, OverflowError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_PROCESS:
                    raise
                raise OwnerGone(f"view {spec.name}: its owner, process {spec.owner_pid}, is gone") from error
            if started(spec.owner_pid) != spec.owner_started:
                self.close()
                raise OwnerGone(f"view {spec.name}: process {spec.owner_pid} is another one than its owner was")

    def renew(self) -> bool:
        """Begin the lease anew; False if there is none."""
        if self._lease_s is None:
            return False
        self._scope.deadline = trio.current_time() + self._lease_s
        return True

    async def gone(self) -> str:
        """Wait until the View has lost its owner; say why."""
        try:
            self.renew()
            with self._scope:
                if self._pidfd is None:
                    await trio.sleep_forever()
                await trio.lowlevel.wait_readable(self._pidfd)  # a pidfd is readable when its process ended
                return "its owner ended"
            return "its lease was not renewed"
        finally:
            self.close()

    def close(self) -> None:
        """Stop watching."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
