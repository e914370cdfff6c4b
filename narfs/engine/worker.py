"""The worker process: runs ingests for a mount, so that no parsing or hashing holds the mount's interpreter lock.

Started by ``workers.py`` as ``python -m narfs.engine.worker FD``; FD is its end of a socket pair and its only way out.
It serves any number of passes at once, in the order their bytes come, and ends when the other end closes. It opens
nothing, and could not (``seccomp``): the files that take the NARs come to it open.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from narfs.engine.ingest import Ingest
from narfs.engine.wire import HEADER, PART_LENGTH, PASSED, ROOT, Order, PartsOrder, Say, failure_to_bytes, pack
from narfs.errors import CacheUnusable, NarfsError
from narfs.formats.erofs.part import Layout
from narfs.formats.listing import Kind, NarListing
from narfs.privileges import keep_only
from narfs.seccomp import confine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_REPORT_EVERY_BYTES = 8 * 1024 * 1024
"""How often a strict pass reports: often enough for a progress bar and for the stall clock, 0.1 % of a core."""

_MESSAGES_AHEAD = 4
"""Messages, of at most 1 MiB, read while an older one is worked on."""

_RIGHTS_BYTES = socket.CMSG_SPACE(struct.calcsize("i"))

_NICENESS = 5
"""The mount answers programs that wait; a pass is ahead of them. They must win when there are fewer cores than work."""


class WorkerPass:
    """One pass in the worker: an ingest, the file its pieces go to, and what was reported of it."""

    def __init__(self, order: Order, file: int | None, say: Callable[[Say, bytes], None]) -> None:
        self._say = say
        self._progressive = order.progressive
        self._threads = ThreadPoolExecutor(1)
        self._ingest = Ingest(
            compression=order.compression,
            nar_hash=bytes.fromhex(order.nar_hash),
            nar_size=order.nar_size,
            threads=self._threads,
        )
        self._reported = 0
        self._root_said = False
        self._file = file

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the blob; write and report what comes of them."""
        for piece in self._ingest.feed(data):
            self._write(piece, self._ingest.passed - len(piece))
            if not self._root_said and (root := self._ingest.root) is not None:
                self._root_said = True
                self._say(
                    Say.ROOT, ROOT.pack(root.kind, root.executable, 0 if root.kind is Kind.DIRECTORY else root.size)
                )
            if self._progressive:
                delta = self._ingest.indexer.builder.take_delta()
                self._say(Say.PASSED, PASSED.pack(self._ingest.passed) + delta)
            elif self._ingest.passed - self._reported >= _REPORT_EVERY_BYTES:
                self._reported = self._ingest.passed
                self._say(Say.PASSED, PASSED.pack(self._ingest.passed))

    def finish(self) -> None:
        """Compare, and report the index."""
        self._say(Say.DONE, self._ingest.finish().to_bytes())

    def close(self) -> None:
        """Let go of the file and the thread."""
        self._ingest.abandon()
        self._threads.shutdown()
        if self._file is not None:
            os.close(self._file)

    def _write(self, piece: bytes, offset: int) -> None:
        if self._file is None:
            return
        try:
            while piece:
                written = os.pwrite(self._file, piece, offset)
                piece, offset = piece[written:], offset + written
        except OSError as error:
            raise CacheUnusable(f"cannot write to the cache: {error.strerror}") from error


class PartMaking:
    """Parts of EROFS images: 4 µs for each node, the whole of it at once."""

    def __init__(self, order: PartsOrder, say: Callable[[Say, bytes], None]) -> None:
        self._order = order
        self._say = say
        self._listings = bytearray()

    def feed(self, data: bytes) -> None:
        """Take more of the listings."""
        self._listings += data

    def finish(self) -> None:
        """Make the parts."""
        left = memoryview(self._listings)
        parts = []
        for lengths, block, slab_block, shared_block in self._order.places:
            buffers = []
            for length in lengths:
                buffers.append(left[:length])
                left = left[length:]
            part = Layout(NarListing(*buffers)).part(block, slab_block, shared_block=shared_block)
            parts += [PART_LENGTH.pack(len(part)), part]
        self._say(Say.DONE, b"".join(parts))

    def close(self) -> None:
        """Let go of nothing."""


class Worker:
    """The loop of the process: one message in, its effect out."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._incoming = _Incoming(peer)
        self._passes: dict[int, WorkerPass | PartMaking] = {}

    def serve(self) -> None:
        """Serve until the other end closes.

        Messages are read ahead in a thread: the loop brings the next bytes while these are being decompressed.
        """
        with io.BufferedReader(self._incoming) as incoming, ThreadPoolExecutor(1) as reader:
            ahead = deque(reader.submit(_read_message, incoming) for _ in range(_MESSAGES_AHEAD))
            while (message := ahead.popleft().result()) is not None:
                ahead.append(reader.submit(_read_message, incoming))
                kind, number, payload = message
                try:
                    self._obey(kind, number, payload)
                except Exception as error:  # noqa: BLE001 - one bad pass must not end the others; the loop logs it
                    self._end(number)
                    self._say(number, Say.FAILED, failure_to_bytes(error))
                    if not isinstance(error, NarfsError):
                        sys.excepthook(type(error), error, error.__traceback__)

    def _obey(self, kind: Say, number: int, payload: bytes) -> None:
        if kind is Say.BEGIN:
            order = Order.from_bytes(payload)
            with self._incoming.file() if order.kept else nullcontext(None) as file:
                self._passes[number] = WorkerPass(order, file, lambda kind, data: self._say(number, kind, data))
        elif kind is Say.BEGIN_PARTS:
            parts_order = PartsOrder.from_bytes(payload)
            self._passes[number] = PartMaking(parts_order, lambda kind, data: self._say(number, kind, data))
        elif number not in self._passes:
            return
        elif kind is Say.DATA:
            self._passes[number].feed(payload)
        elif kind is Say.END:
            self._passes[number].finish()
            self._end(number)
        else:
            self._end(number)

    def _say(self, number: int, kind: Say, payload: bytes) -> None:
        self._peer.sendall(pack(kind, number, payload))

    def _end(self, number: int) -> None:
        if (ended := self._passes.pop(number, None)) is not None:
            ended.close()


class _Incoming(io.RawIOBase):
    """What comes by a socket, and the descriptors that come with it."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._files: deque[int | None] = deque()

    def readable(self) -> bool:
        """Say so."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some. What comes with one descriptor is never read together with what comes with the next."""
        count, ancillary, flags, _ = self._peer.recvmsg_into([buffer], _RIGHTS_BYTES, socket.MSG_CMSG_CLOEXEC)
        self._files.extend(struct.unpack("i", data)[0] for _, _, data in ancillary)
        if flags & socket.MSG_CTRUNC:  # this process may have no more; it must not take the next one for it
            self._files.append(None)
        return count

    @contextmanager
    def file(self) -> Iterator[int]:
        """Take the next descriptor; it stays open if the block does not fail. CacheUnusable."""
        if (file := self._files.popleft()) is None:
            raise CacheUnusable("a worker process may have no more open files")
        try:
            yield file
        except BaseException:
            os.close(file)
            raise


def _read_message(incoming: BinaryIO) -> tuple[Say, int, bytes] | None:
    """Read one message; None when the other end has closed, also in the middle of one."""
    if len(header := incoming.read(HEADER.size)) < HEADER.size:
        return None
    kind, number, length = HEADER.unpack(header)
    payload = incoming.read(length)
    return None if len(payload) < length else (Say(kind), number, payload)


def main() -> None:
    """Serve the socket whose descriptor the command line names."""
    os.nice(_NICENESS)
    keep_only()  # it unpacks what strangers packed
    with socket.socket(fileno=int(sys.argv[1])) as peer:
        if (why_not := confine()) is not None:
            sys.stderr.write(f"narfs: a worker process may open files and connect, as the daemon may: {why_not}\n")
        try:
            Worker(peer).serve()
        except (BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main()
