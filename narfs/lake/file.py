"""FileTransport: a lake in a directory, perhaps on a network file system.

All I/O runs in threads, a whole small object or a piece of 1 MiB at a time. A thread that hangs (a dead NFS server) is
left behind at the deadline; it owns nothing that anybody else needs.

A name never leaves the lake: it is resolved with all its symlinks, and what lies outside of the resolved directory is
Untrusted. Only regular files count. Absent is believed only while the lake has its nix-cache-info: an unmounted disk is
an empty directory, which must not look like a lake where everything is gone.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from narfs.errors import Corrupt, NotFound, TooSlow, Unavailable, Untrusted
from narfs.lake.pieces import PIECE_BYTES
from narfs.lake.transport import CACHE_INFO, FROM_THE_START, ExactChunks, TransportCounters

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
    from typing import TypeVar

    from narfs.lake.settings import LakeSettings
    from narfs.lake.store_url import StoreUrl
    from narfs.lake.transport import TransportStatistics
    from narfs.offsets import BlobOffset

    T = TypeVar("T")


_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class FileTransport:
    """The lake in the directory of ``url``."""

    def __init__(self, url: StoreUrl, settings: LakeSettings) -> None:
        self._root = Path(url.path)
        self._stall_s = settings.stall_deadline_s
        # A bound of its own, so that a dead disk does not take the threads that everybody shares.
        self._threads = trio.CapacityLimiter(settings.short_requests)
        self._counters = TransportCounters()

    async def get(self, name: str, *, max_bytes: int) -> bytes:
        """Read a small object whole."""

        def read() -> bytes:
            with self._opened(name) as descriptor:
                size = os.fstat(descriptor).st_size
                if size > max_bytes:
                    raise Corrupt(f"{self._root / name}: is longer than {max_bytes} bytes")
                return _read_up_to(descriptor, 0, size)

        return self._received(await self._in_thread(name, read))

    async def read_range(self, name: str, start: BlobOffset, length: int) -> bytes:
        """Read exactly ``length`` bytes from byte ``start``."""
        data = await self._read(name, start, length)
        if len(data) < length:
            end = start + len(data)
            raise Corrupt(f"{self._root / name}: byte {start + length} was asked for, but it ends at {end}")
        return data

    async def read_beginning(self, name: str, length: int) -> bytes:
        """Read the first ``length`` bytes, or all."""
        return await self._read(name, FROM_THE_START, length)

    @asynccontextmanager
    async def stream(self, name: str, *, start: BlobOffset = FROM_THE_START) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an object, from byte ``start``; a file that is replaced meanwhile is read on as it was."""
        # A file object: if its thread is left behind, the descriptor is closed by whoever forgets the result.
        file = await self._in_thread(name, lambda: os.fdopen(self._open(name), "rb", buffering=0))
        try:
            yield _FileReader(self, name, file.fileno(), start)
        finally:
            # A thread left behind in pread at most reads from a stranger's descriptor what nobody will see.
            file.close()

    async def put(self, name: str, chunks: AsyncIterable[bytes], size: int) -> None:
        """Write an object: to a file beside it, to the disk, then under its name."""
        target = self._root / name
        temporary = _temporary(target)
        descriptor = await self._in_thread(name, lambda: self._create(name, temporary), wait=True)
        try:
            async with aclosing(ExactChunks(chunks, size, what=str(target))) as upload:
                async for chunk in upload:
                    await self._in_thread(name, partial(_write_all, descriptor, chunk), wait=True)
            await self._in_thread(name, lambda: _publish(descriptor, temporary, target), wait=True)
        except BaseException:
            with trio.CancelScope(shield=True), suppress(OSError):
                await trio.to_thread.run_sync(temporary.unlink)
            raise
        finally:
            os.close(descriptor)
        self._counters.sent_bytes += size

    async def put_small(self, objects: Mapping[str, bytes]) -> None:
        """Write objects in one hop, and each directory to the disk once: a path's four objects took 12 hops."""
        await self._in_thread("", partial(self._put_now, objects), wait=True)
        self._counters.sent_bytes += sum(map(len, objects.values()))

    async def names(self, ending: str) -> list[str]:
        """Name all objects with this ending."""
        names = await self._in_thread("", lambda: [entry.name for entry in self._root.iterdir()])
        return sorted(name for name in names if name.endswith(ending))

    async def exists(self, name: str) -> bool:
        """Whether the object is there."""

        def look() -> bool:
            try:
                return stat.S_ISREG(os.stat(self._resolved(name)).st_mode)  # noqa: PTH116 - a text, and hot
            except (FileNotFoundError, NotADirectoryError):
                return False

        return await self._in_thread(name, look)

    async def aclose(self) -> None:
        """Do nothing: nothing stays open between calls."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> TransportStatistics:
        """Tell what was done so far."""
        return self._counters.snapshot(in_flight=self._threads.borrowed_tokens)

    async def next_piece(self, name: str, descriptor: int, start: int) -> bytes:
        """Read up to 1 MiB; empty at the end of the file."""
        return self._received(await self._in_thread(name, lambda: os.pread(descriptor, PIECE_BYTES, start)))

    def _put_now(self, objects: Mapping[str, bytes]) -> None:
        folders = {folder: self._folder(folder) for folder in {os.path.dirname(name) for name in objects}}  # noqa: PTH120 - texts, and hot
        mark = f".tmp.{secrets.token_hex(8)}"
        targets = [f"{folders[os.path.dirname(name)]}/{os.path.basename(name)}" for name in objects]  # noqa: PTH119, PTH120
        try:
            for target, data in zip(targets, objects.values(), strict=True):
                descriptor = os.open(target + mark, _NEW_FILE, 0o666)
                try:
                    _write_all(descriptor, data)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            for target in targets:
                os.rename(target + mark, target)  # noqa: PTH104
        except BaseException:
            for target in targets:
                Path(target + mark).unlink(missing_ok=True)
            raise
        for folder in folders.values():
            _sync_directory(folder)

    def _folder(self, name: str) -> str:
        """Give the directory in which objects lie; made if it is not there."""
        folder = self._resolved(name)
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        return folder

    async def _read(self, name: str, start: BlobOffset, length: int) -> bytes:
        def read() -> bytes:
            with self._opened(name) as descriptor:
                return _read_up_to(descriptor, start, max(length, 0))

        return self._received(await self._in_thread(name, read))

    def _received(self, data: bytes) -> bytes:
        self._counters.received_bytes += len(data)
        return data

    async def _in_thread(self, name: str, work: Callable[[], T], *, wait: bool = False) -> T:
        """Do ``work`` in a thread. ``wait``: it changes something, so it is never left behind unfinished."""
        self._counters.requests += 1

        def translating() -> T:
            try:
                return work()
            except OSError as error:
                raise self._translated(error, name) from error

        with trio.move_on_after(self._stall_s):
            return await trio.to_thread.run_sync(translating, abandon_on_cancel=not wait, limiter=self._threads)
        raise TooSlow(f"{self._root / name}: the disk gave nothing for {self._stall_s:g} s")

    def _translated(self, error: OSError, name: str) -> NotFound | Unavailable:
        """Say what an OSError means. The one table of the file lake; looks at the disk once more."""
        path = self._root / name
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            if name == CACHE_INFO or (self._root / CACHE_INFO).exists():
                return NotFound(f"{path}: is not there")
            return Unavailable(f"{self._root}: has no {CACHE_INFO}: is its disk mounted, and is it a binary cache?")
        return Unavailable(f"{path}: {error.strerror or error}")

    def _resolved(self, name: str) -> str:
        root = os.path.realpath(self._root)
        path = os.path.realpath(f"{root}/{name}")
        if os.path.commonpath((root, path)) != root:
            raise Untrusted(f"{self._root / name}: leads out of the lake, to {path}")
        return path

    def _open(self, name: str) -> int:
        # O_NOFOLLOW: resolved a moment ago, so a symlink now is one that was put there since. O_NONBLOCK: a pipe.
        descriptor = os.open(self._resolved(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Unavailable(f"{self._root / name}: is no regular file")
        return descriptor

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        descriptor = self._open(name)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _create(self, name: str, temporary: Path) -> int:
        self._resolved(name)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        return os.open(temporary, _NEW_FILE, 0o666)


class _FileReader:
    """The pieces of an open file."""

    def __init__(self, transport: FileTransport, name: str, descriptor: int, start: int) -> None:
        self._transport = transport
        self._name = name
        self._descriptor = descriptor
        self._position = start

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._transport.next_piece(self._name, self._descriptor, self._position)
        if not piece:
            raise StopAsyncIteration
        self._position += len(piece)
        return piece


def _read_up_to(descriptor: int, start: int, length: int) -> bytes:
    """Read ``length`` bytes, fewer only at the end of the file. One pread gives at most 2 GiB and may give less."""
    pieces = []
    while length > 0 and (piece := os.pread(descriptor, length, start)):
        pieces.append(piece)
        start += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def _temporary(target: Path) -> Path:
    return target.with_name(f"{target.name}.tmp.{secrets.token_hex(8)}")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _publish(descriptor: int, temporary: Path, target: Path) -> None:
    os.fsync(descriptor)
    temporary.rename(target)
    _sync_directory(target.parent)


def _sync_directory(directory: str | Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
