"""The worker processes as the event loop sees them: who runs a pass, and what it answers.

A fixed number of processes serves any number of passes. A pass whose lake stalls costs its worker nothing, so one bad
lake cannot starve the others; a worker that dies fails its passes with Unavailable, and the next pass starts another.

A pass through the eyes of this module::

    loop task of the pass            sender (same task)              reader task of the worker
    ────────────────────             ──────────────────              ─────────────────────────
    begin(order) ───────────────────→ BEGIN
    send(data) …  ──────────────────→ DATA (waits while the worker is behind)
    finish()  ──────────────────────→ END
                                                                     ROOT, PASSED… → events.on_root, on_passed
    wait for DONE or FAILED ←──────────────────────────────────────  DONE | FAILED → Ticket.outcome, wake
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
import struct
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import trio

from narfs.engine.wire import HEADER, PASSED, ROOT, Order, PartsOrder, Say, failure_from_bytes, pack
from narfs.errors import Closing, NarfsError, Unavailable, again
from narfs.formats.listing import Kind
from narfs.formats.nar import Root

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from narfs.cache.disk import Descriptor

_log = logging.getLogger(__name__)

_RECEIVE_BYTES = 256 * 1024
_STUCK_S = 60.0
"""A worker that takes no byte, or says none while an answer is due, for so long hangs (in its disk, most likely): one
piece is at most a second of work, and it reports every 8 MiB that pass."""
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "67108864", "MALLOC_TRIM_THRESHOLD_": "67108864"}
"""For malloc(3) of a worker: keep up to 64 MiB that were freed. Pieces of 1 MiB come and go; giving each back to the
kernel to get it anew, zeroed and page by page, took a quarter of a pass's processor time (2.0 s of 500 MB, now 1.5)."""
_EXIT_GRACE_S = 5.0
"""How long a worker may take to notice that its socket closed before it is killed."""


class Watcher(Protocol):
    """Who is told how a pass goes. Called on the event loop, must not wait."""

    def on_root(self, root: Root) -> None:
        """Say what the NAR claims its root node to be."""

    def on_passed(self, nar_bytes: int, delta: bytes) -> None:
        """Say how far the NAR is written and what its tree grew by."""


class Ticket:
    """One pass at one worker. Made by ``Workers.begin``."""

    def __init__(self, worker: _WorkerProcess, number: int, watcher: Watcher) -> None:
        self._worker = worker
        self._number = number
        self.watcher = watcher
        self.outcome: bytes | NarfsError | None = None
        self.ended = trio.Event()

    async def send(self, data: bytes) -> None:
        """Hand over the next bytes of the blob; waits while the worker is behind. Raises what the pass failed with."""
        if isinstance(self.outcome, NarfsError):
            raise again(self.outcome)
        await self._worker.send(HEADER.pack(Say.DATA, self._number, len(data)), data)

    async def finish(self) -> bytes:
        """Say that the blob is complete; give the encoded NarIndex, or raise what the pass failed with."""
        await self._worker.send(pack(Say.END, self._number))
        while not self.ended.is_set():
            heard = self._worker.heard_total
            with trio.move_on_after(_STUCK_S):
                await self.ended.wait()
            if not self.ended.is_set() and self._worker.heard_total == heard:
                self._worker.give_up()
        if isinstance(self.outcome, bytes):
            return self.outcome
        assert self.outcome is not None  # noqa: S101 - ended is only set with an outcome
        raise self.outcome

    def end(self, outcome: bytes | NarfsError) -> None:
        """Record how the pass ended and wake who waits for it."""
        if self.outcome is None:
            self.outcome = outcome
            self.ended.set()


class _WorkerProcess:
    """One process, its socket, and the passes it runs."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module under our own interpreter
                [sys.executable, "-P", "-m", "narfs.engine.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | _ALLOCATOR,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C at the terminal is the mount's to handle, not the worker's
            )
        except OSError as error:
            ours.close()
            raise Unavailable(f"cannot start a worker process: {os.strerror(error.errno or 0)}") from error
        finally:
            theirs.close()
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self._sending = trio.Lock()
        self.tickets: dict[int, Ticket] = {}
        self.heard_total = 0
        """Bytes that it has said, about any pass: its sign of life."""
        self.alive = True

    async def send(self, *parts: bytes, file: Descriptor | None = None) -> None:
        """Send one message; in parts, so that a piece of 1 MiB is not copied to be behind its header.

        ``file`` is open in the worker then, too.
        """
        async with self._sending:
            if not self.alive:
                raise Unavailable("a worker process ended in the middle of a pass")
            # A message cut short by a cancellation would garble every pass of this worker, so a send is not cancelled;
            # a worker that takes nothing for so long is stuck and is given up.
            with trio.CancelScope(shield=True, relative_deadline=_STUCK_S) as scope:
                try:
                    sent = 0 if file is None else await self._send_with(file, parts[0])
                    for part in (parts[0][sent:], *parts[1:]):
                        await self._stream.send_all(part)
                except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    raise Unavailable("a worker process ended in the middle of a pass") from error
            if scope.cancelled_caught:
                self.give_up()
                raise Unavailable(f"a worker process took nothing for {_STUCK_S:.0f} s and was ended")

    async def _send_with(self, file: Descriptor, data: bytes) -> int:
        rights = struct.pack("i", file.fd)
        return await self._stream.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    async def receive(self) -> None:
        """Take answers until the process ends; then fail what is left of its passes and reap it."""
        incoming = bytearray()
        try:
            while data := await self._stream.receive_some(_RECEIVE_BYTES):
                self.heard_total += len(data)
                incoming += data
                self._take_messages(incoming)
        except trio.BrokenResourceError:
            pass
        except Exception:  # noqa: BLE001 - a bug must cost this worker's passes, not the mount
            _log.exception("what a worker said could not be taken; it is ended")
            self._process.kill()
        finally:
            self.alive = False
            self._fail_passes("a worker process ended in the middle of a pass")
            with trio.CancelScope(shield=True):
                await self._reap()

    def give_up(self) -> None:
        """Kill a process that hangs. It may take its time to die (in its disk, say), so its passes fail here."""
        self.alive = False
        self._process.kill()
        self._fail_passes(f"a worker process gave no sign of life for {_STUCK_S:.0f} s and was ended")

    def end(self) -> None:
        """Ask the process to end, by closing our half; ``receive`` notices and reaps it.

        Not ``send_eof``, which refuses while somebody sends: a sender is to notice it as well.
        """
        self.alive = False
        with suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_WR)

    def _fail_passes(self, why: str) -> None:
        for ticket in self.tickets.values():
            ticket.end(Unavailable(why))

    async def _reap(self) -> None:
        for _ in range(2):
            # Without memory there is no thread to be had; whatever is left is reaped when the next process starts.
            with trio.move_on_after(_EXIT_GRACE_S), suppress(RuntimeError):
                await trio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)
                break
            self._process.kill()
        await self._stream.aclose()

    def _take_messages(self, incoming: bytearray) -> None:
        while len(incoming) >= HEADER.size:
            kind, number, length = HEADER.unpack_from(incoming)
            end = HEADER.size + length
            if len(incoming) < end:
                return
            payload = bytes(memoryview(incoming)[HEADER.size : end])
            del incoming[:end]
            if (ticket := self.tickets.get(number)) is not None:
                self._take(ticket, Say(kind), payload)

    def _take(self, ticket: Ticket, kind: Say, payload: bytes) -> None:
        if kind is Say.ROOT:
            node, executable, size = ROOT.unpack(payload)
            ticket.watcher.on_root(Root(Kind(node), executable, size))
        elif kind is Say.PASSED:
            ticket.watcher.on_passed(PASSED.unpack_from(payload)[0], payload[PASSED.size :])
        elif kind is Say.DONE:
            ticket.end(payload)
        else:
            ticket.end(failure_from_bytes(payload))


class Workers:
    """A pool of ``count`` worker processes, started when first needed. Its nursery reads their answers."""

    def __init__(self, nursery: trio.Nursery, count: int) -> None:
        self._nursery = nursery
        self._count = count
        self._processes: list[_WorkerProcess] = []
        self._numbers = itertools.count(1)
        self._closed = False

    def warm_up(self) -> None:
        """Start one process now: the first pass then does not wait 0.1 s for an interpreter."""
        if not self._processes:
            self._start()

    @asynccontextmanager
    async def begin(
        self, order: Order | PartsOrder, watcher: Watcher, file: Descriptor | None = None
    ) -> AsyncIterator[Ticket]:
        """Begin a pass at the least busy worker; leaving the block early aborts it there.

        ``file`` takes the NAR, if the order says so.
        """
        worker = self._least_busy()
        number = next(self._numbers) & 0xFFFFFFFF
        ticket = Ticket(worker, number, watcher)
        worker.tickets[number] = ticket
        try:
            await worker.send(pack(order.begins, number, order.to_bytes()), file=file)
            yield ticket
        finally:
            del worker.tickets[number]
            if not isinstance(ticket.outcome, bytes) and worker.alive:
                with trio.CancelScope(shield=True):
                    await worker.send(pack(Say.ABORT, number))

    def close(self) -> None:
        """End all processes; their nursery waits until they are gone."""
        self._closed = True
        for process in self._processes:
            process.end()

    def _least_busy(self) -> _WorkerProcess:
        if self._closed:
            raise Closing("the mount is going away")
        self._processes = [process for process in self._processes if process.alive]
        idle = min(self._processes, key=lambda process: len(process.tickets), default=None)
        if idle is None or (idle.tickets and len(self._processes) < self._count):
            return self._start()
        return idle

    def _start(self) -> _WorkerProcess:
        process = _WorkerProcess()
        self._processes.append(process)
        self._nursery.start_soon(process.receive)
        return process
