"""A file system of slabs, one file for each View that EROFS shows, over /dev/fuse without libfuse.

Numbers are drawn from 2^62. None may mean another slab while the kernel has the first one open, which nobody can know
of a View that was removed lazily by a process before this one.

libfuse wants to have begun the conversation with the kernel, and ends it with its process. This speaks the few words of
it that such files need, and keeps no state that the kernel relies on: there are no handles, a node's number is the
slab's, and nothing is done at a FORGET. So whoever has the descriptor can go on where another process, dead or not,
left off. What that one had read and not answered the kernel sends once more.

::

    DIRECTORY/       node 1
    DIRECTORY/7      node 7, the slab that was laid as 7
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
from collections import Counter
from typing import TYPE_CHECKING, Final, Self

import trio

from narfs.errors import NotFound, Unavailable
from narfs.formats import fuse_protocol as fuse
from narfs.formats.fuse_protocol import ROOT_NODE, Opcode
from narfs.mount.errnos import Failures
from narfs.mount.statistics import MountStatistics
from narfs.mount.view import SLAB_MODE
from narfs.offsets import SlabOffset

if TYPE_CHECKING:
    from narfs.formats.fuse_protocol import Request
    from narfs.mount.slab import Slab

_log = logging.getLogger(__name__)

_ROOT_MODE: Final = stat.S_IFDIR | 0o500

_AT_ONCE: Final = 64
"""Requests read before other tasks have their turn: 64 of what is at hand take 2 ms."""

_LAID_S: Final = 120.0
"""How long a read waits for a slab that the process before had laid."""

_OVER: Final = frozenset({errno.ENODEV, errno.EPERM, errno.ECONNABORTED})
"""read(2): it was unmounted, or the connection ended otherwise."""


class Slabs:
    """Those that are laid. Owns ``fd``, which is of /dev/fuse."""

    def __init__(self, fd: int, *, adopted: bool = False) -> None:
        """``adopted``: another process has served before, whose slabs are to be laid again under their numbers."""
        os.set_blocking(fd, False)
        self.fd = fd
        self.adopted = adopted
        self.usable = trio.Event()
        self._slabs: dict[int, Slab] = {}
        self._ended = False
        self._serving = trio.CancelScope(shield=True)
        self._reading = trio.CancelScope()
        self._changed = trio.Event()
        self._complete = not adopted
        self._requests: Counter[str] = Counter()
        self._failures = Failures()
        self._bytes_read = 0

    @classmethod
    def open(cls) -> Self:
        """Open /dev/fuse, to be mounted by the caller; Unavailable."""
        try:
            return cls(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise Unavailable(f"/dev/fuse: {error.strerror}; it has to be there (modprobe fuse)") from error

    def lay(self, slab: Slab, number: int | None = None) -> int:
        """Show a slab under a new number, or the one that it had before; give the number, which is its name too."""
        if number is None:
            number = secrets.randbits(62) | 1 << 62
        self._slabs[number] = slab
        self._wake()
        return number

    def take(self, number: int) -> None:
        """Show it no longer. Who has it open still gets an answer, EIO."""
        self._slabs.pop(number, None)

    @property
    def over(self) -> bool:
        """Whether nobody will ask for anything: it was unmounted, and nothing is laid nor going to be laid again."""
        return self._ended and self._complete and not self._slabs

    def has(self, number: int) -> bool:
        """Whether a slab is shown."""
        return number in self._slabs

    def complete(self) -> None:
        """Say that whatever was laid before is laid again."""
        self._complete = True
        self._wake()

    def statistics(self) -> MountStatistics:
        """Count. Nothing is ever open, and who waits is known to the scenes."""
        return MountStatistics(dict(self._requests), self._failures.by_name(), self._bytes_read)

    async def serve(self) -> None:
        """Answer until ``stop``, or until it is unmounted; a cancellation must not leave requests unanswered."""
        try:
            with self._serving:
                if self._serving.cancel_called:  # before it began
                    return
                if self.adopted:
                    self.usable.set()
                    os.write(self.fd, fuse.resend_notice())
                async with trio.open_nursery() as listening:
                    with self._reading:
                        async with trio.open_nursery() as reads:
                            listening.start_soon(self._listen, reads)
                            await trio.sleep_forever()
        finally:
            self.usable.set()  # whoever waits for it looks whether it is mounted

    def leave_reads(self) -> None:
        """Leave all reads to whoever has the descriptor too; anything else is still answered: mount(2) waits for it."""
        self._reading.cancel()

    def stop(self) -> None:
        """Read no more requests, and leave those under way to whoever has the descriptor too."""
        self.leave_reads()
        self._serving.cancel()

    def close(self) -> None:
        """Let go of the descriptor: if nobody else has it, everything that is asked from now on fails."""
        self.stop()
        fd, self.fd = self.fd, -1  # a read that has its bytes already may still answer: not into another file
        os.close(fd)

    async def _listen(self, reads: trio.Nursery) -> None:
        while not self._serving.cancel_called:  # else there may be no descriptor any more
            await trio.lowlevel.wait_readable(self.fd)
            for _ in range(_AT_ONCE):
                try:
                    data = os.read(self.fd, fuse.REQUEST_MAX_BYTES)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _OVER:
                        self._ended = True
                        self._reading.cancel()
                        return
                    continue  # ENOENT: whoever asked was killed meanwhile
                self._hear(fuse.parse_request(data), reads)

    def _hear(self, request: Request, reads: trio.Nursery) -> None:
        name = _NAMES.get(request.opcode, str(request.opcode))
        self._requests[name] += 1
        if request.opcode == Opcode.READ:
            if not self._reading.cancel_called:  # else it is sent again to the next process
                reads.start_soon(self._read, request)
        elif request.opcode not in fuse.SILENT:
            try:
                body = self._told(request)
            except _NotKnown:
                self._send(request, b"", errno.ENOSYS)
            except Exception as error:  # noqa: BLE001 - counted, logged and answered there
                self._send(request, b"", self._failures.answer(name, error))
            else:
                self._send(request, body)

    def _told(self, request: Request) -> bytes:
        """Give the body of an answer that is known at once."""
        match request.opcode:
            case Opcode.INIT:
                body = fuse.init_body(request.body)
                self.usable.set()
                return body
            case Opcode.LOOKUP:
                name = fuse.parse_name(request.body).decode("ascii", "replace")
                if not name.isdecimal() or int(name) not in self._slabs:
                    raise NotFound(f"{name}: no such slab")
                return fuse.entry_body(self._attributes(int(name)))
            case Opcode.GETATTR:
                return fuse.attributes_body(self._attributes(request.node))
            case Opcode.STATFS:
                return fuse.statfs_body(sum(slab.size for slab in self._slabs.values()))
            case Opcode.DESTROY:
                return b""
        raise _NotKnown

    def _attributes(self, node: int) -> fuse.Attributes:
        if node == ROOT_NODE:
            return fuse.Attributes(ROOT_NODE, _ROOT_MODE, 0)
        if (slab := self._slabs.get(node)) is None:
            raise _gone(node)
        return fuse.Attributes(node, SLAB_MODE, slab.size)

    async def _read(self, request: Request) -> None:
        try:
            offset, size = fuse.parse_read(request.body)
            slab = self._slabs.get(request.node) or await self._laid_again(request.node)
            body = await slab.read(SlabOffset(offset), size)
        except Exception as error:  # noqa: BLE001 - counted, logged and answered there
            self._send(request, b"", self._failures.answer("read", error))
        else:
            self._bytes_read += len(body)
            self._send(request, body)

    async def _laid_again(self, number: int) -> Slab:
        """Wait for a slab of the process before."""
        with trio.move_on_after(_LAID_S):
            while not self._complete and number not in self._slabs:
                await self._changed.wait()
        if (slab := self._slabs.get(number)) is None:
            raise _gone(number)
        return slab

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _send(self, request: Request, body: bytes, number: int = 0) -> None:
        try:
            os.writev(self.fd, (fuse.answer_head(request.unique, len(body), errno=number), body))
        except OSError as error:  # ENOENT: nobody waits any more; ENODEV: it was unmounted
            _log.debug("an answer to %d: %s", request.opcode, error)


class _NotKnown(Exception):  # noqa: N818 - never leaves this module
    pass


def _gone(number: int) -> Unavailable:
    return Unavailable(f"slab {number}: its view was removed, or could not be made again")


_NAMES: Final = {opcode.value: opcode.name.lower() for opcode in Opcode}
