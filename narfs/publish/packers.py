"""The packing processes as the event loop sees them: small paths in batches, one batch at a process at a time."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from narfs.errors import NarfsError, Unavailable
from narfs.publish.packer import crates
from narfs.publish.sealing import FramePress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from narfs.publish.packing import Crate, Parcel

MAX_PROCESSES = 4
"""35 MB each; they keep up with one event loop that sends what they pack."""
_ANSWER_DEADLINE_S = 120.0
"""A batch is a tenth of a second of work; a disk that hangs is not waited for longer."""


class Packers:
    """``count`` processes, each with one batch at a time; a thread of this one if that is 0."""

    def __init__(self, level: int, count: int) -> None:
        self._press = FramePress(level)
        self._processes = [_Process(level) for _ in range(count)]
        self._idle = [*self._processes]
        self._places = trio.Semaphore(max(count, 1))

    async def pack(self, parcels: Sequence[tuple[Path, Parcel]]) -> list[Crate]:
        """Pack paths of some MiB in all; Corrupt, UsageError or Unavailable of the first that fails."""
        async with self._places:
            if self._processes:
                if not self._idle:  # one that failed does not come back: who knows what its answer would be to
                    raise Unavailable("a packing process failed, and no other is left")
                process = self._idle.pop()
                made = await process.ask(parcels)
                self._idle.append(process)
            else:
                made = await trio.to_thread.run_sync(crates, parcels, self._press)
        if isinstance(made, NarfsError):
            raise made
        return made

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()


@contextmanager
def open_packers(level: int, count: int) -> Iterator[Packers]:
    """Start the processes; they need 0.1 s until they take work, which then waits for them."""
    packers = Packers(level, count)
    try:
        yield packers
    finally:
        packers.close()


class _Process:
    def __init__(self, level: int) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "narfs.publish.packer", str(theirs.fileno()), str(level)]
        try:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603 - our own module
        except OSError as error:
            ours.close()
            raise Unavailable(f"cannot start a packing process: {error.strerror}") from error
        finally:
            theirs.close()
        self._socket = ours
        self._peer = ours.makefile("rwb")

    async def ask(self, parcels: Sequence[tuple[Path, Parcel]]) -> list[Crate] | NarfsError:
        with trio.move_on_after(_ANSWER_DEADLINE_S):
            return await trio.to_thread.run_sync(self._exchange, parcels, abandon_on_cancel=True)
        raise Unavailable(f"packing gave no answer for {_ANSWER_DEADLINE_S:g} s: does the disk hang?")

    def _exchange(self, parcels: Sequence[tuple[Path, Parcel]]) -> list[Crate] | NarfsError:
        try:
            pickle.dump(parcels, self._peer)
            self._peer.flush()
            made: list[Crate] | NarfsError = pickle.load(self._peer)  # noqa: S301 - from our own process
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise Unavailable("a packing process ended in the middle of its work") from error
        return made

    def close(self) -> None:
        # Killed, not asked: it has nothing to bring to an end, and an abandoned thread may still use the socket.
        self._process.kill()
        self._process.wait()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
