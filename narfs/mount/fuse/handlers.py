"""Handlers of the kernel's requests.

They convert and answer; what a store path looks like is decided in ``view``, what lies in no NAR in ``stage``. All
handlers go through one funnel, which counts, translates by one table and logs. Everything below the root is immutable,
so whatever is verified is given to the kernel without end; most reads never come here.

A handler that knows its answer does not await: a request costs about 50 µs in kernel, libfuse and trio, a few µs here.
"""
# ruff: noqa: ARG002 - pyfuse3 decides what a handler is given

from __future__ import annotations

import functools
import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar, TypeVarTuple

import pyfuse3
import trio
from pyfuse3 import FileInfo, FUSEError, StatvfsData, readdir_reply

from narfs.errors import Corrupt, IsADirectory, ReadOnly
from narfs.formats.listing import Kind
from narfs.mount.errnos import Failures, errno_of
from narfs.mount.fuse.entries import validity
from narfs.mount.fuse.recall import Recall
from narfs.mount.handles import Handles, OpenDirectory, OpenFile
from narfs.mount.names import Names
from narfs.mount.statistics import MountStatistics
from narfs.mount.view import BLOCK_BYTES, DIRECTORY_MODE
from narfs.offsets import FileOffset, in_nar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from pyfuse3 import EntryAttributes, FileHandleT, FileNameT, FlagT, InodeT, ReaddirToken, RequestContext

    from narfs.mount.fuse.stage import Stage
    from narfs.mount.view import Attachment

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_ASKED_TWICE_S = 1.0
"""The kernel repeats a failed read page by page; the answer is the same, without another wait."""


def _answers(
    handler: Callable[Concatenate[Handlers, P], Awaitable[T]],
) -> Callable[Concatenate[Handlers, P], Coroutine[Any, Any, T]]:
    """Funnel of all handlers: count, answer a failure by the table, log it; a bug is EIO and the mount lives."""
    name = handler.__name__

    async def answer(self: Handlers, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.requests[name] += 1
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError as again:  # remembered: translated and logged before
            self._failures.count(again.errno)
            raise
        except Exception as error:
            raise FUSEError(self._failures.answer(name, error)) from error

    functools.update_wrapper(answer, handler)
    return answer


class Handlers(pyfuse3.Operations):
    """Answers the kernel. Extended attributes, flush, fsync and access stay ENOSYS, which the kernel remembers."""

    supports_dot_lookup = False

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.usable = trio.Event()
        self.requests: Counter[str] = Counter()
        self.recall = Recall()
        self._failures = Failures()
        self._entries = stage.entries
        self._tops = stage.tops
        self._at = stage.inodes.at
        self._bytes_read = 0
        self._files: Handles[OpenFile] = Handles()
        self._directories: Handles[OpenDirectory] = Handles()
        self._names = Names()

    def statistics(self) -> MountStatistics:
        """Count what was asked and what was answered."""
        return MountStatistics(
            requests=dict(self.requests),
            failures=self._failures.by_name(),
            bytes_read=self._bytes_read,
            open_files=len(self._files),
            waiting=sum(len(scene.waits) for scene in self.stage.scenes),
        )

    def init(self) -> None:
        """Hear that kernel and session have agreed."""
        self.usable.set()

    # Names and attributes.

    @_answers
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """Find a name in a directory; absence is an answer with a validity, which an ENOENT would not have."""
        if (top := self._tops.get(parent_inode)) is not None:
            return await top.lookup(name)
        attachment, directory = self._at(parent_inode)
        accessor = attachment.accessor
        listing = accessor.listing
        if listing is not None:
            child = self._names.child(parent_inode, listing, directory, name)
            return self._entries.absent if child is None else self._entries.verified(attachment, listing, child)
        child = await self._wait(attachment, accessor.child, directory, name)
        if child is None:
            return self._entries.negative(validity(attachment))
        return await self._unverified(attachment, child)

    async def _unverified(self, attachment: Attachment, node: int) -> EntryAttributes:
        found = await self._wait(attachment, attachment.accessor.node, node)
        return self._entries.entry(attachment.attributes(node, found.shape), validity(attachment))

    @_answers
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Describe an inode."""
        if (top := self._tops.get(inode)) is not None:
            return top.entry()
        attachment, node = self._at(inode)
        listing = attachment.accessor.listing
        if listing is not None:
            return self._entries.verified(attachment, listing, node)
        if node == 0:
            shape = self.stage.of(attachment).roots.show(attachment)
            return self._entries.entry(attachment.attributes(0, shape), validity(attachment))
        return await self._unverified(attachment, node)

    @_answers
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """Give a symlink's target; asked each time, because pyfuse3 does not ask for CACHE_SYMLINKS."""
        attachment, node = self._at(inode)
        accessor = attachment.accessor
        if accessor.listing is not None:
            return accessor.listing.target(node)
        return await self._wait(attachment, accessor.target, node)

    # Files.

    @_answers
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Resolve a file. Its pages stay in the kernel from one open to the next."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly("narfs is read-only")
        attachment, id_ = self._at(inode)
        accessor = attachment.accessor
        listing = accessor.listing
        node = listing.node(id_) if listing is not None else await self._wait(attachment, accessor.node, id_)
        if node.kind != Kind.REGULAR:
            raise IsADirectory(f"{attachment.path.path}: node {id_} is not a file")
        if accessor.listing is None:
            self.recall.note(accessor, inode)
        file = OpenFile(self.stage.of(attachment).reads.of(attachment), node)
        return FileInfo(fh=self._files.add(file), keep_cache=True)

    @_answers
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Give all the bytes asked for up to the end of the file; a short answer would be taken for the end."""
        file = self._files.get(fh)
        if file.broken_passes != file.accessor.broken_passes:
            raise Corrupt("this file was opened while its NAR was passing, and that pass broke off: open it again")
        size = min(size, file.size - off)
        if size <= 0:
            return b""
        self._bytes_read += size
        file.noted = True
        file.reads.later(file.reads.read, file.node, file.size, off, size)
        data = file.accessor.read_nowait(in_nar(file.contents, FileOffset(off)), size)
        if data is None:
            data = await self._read_waiting(file, off, size)
        if not off:
            self.stage.of(file.reads.attachment).saw(file.reads.attachment, file.node, data)
        return data

    async def _read_waiting(self, file: OpenFile, off: int, size: int) -> bytes:
        if file.failed_before(off, size, trio.current_time()):
            raise FUSEError(file.failed_errno)
        scene = self.stage.of(file.reads.attachment)
        start = in_nar(file.contents, FileOffset(off))
        if not off and not file.accessor.is_here(start, size):  # the disk alone says nothing of what comes
            scene.awaits(file.reads.attachment, file.node)
        try:
            with file.reads.waiting(file.node, off, size):
                return await scene.waits.within(scene.read_deadline_s, file.accessor.read, start, size)
        except Exception as error:
            file.failed_errno = errno_of(error)
            file.failed_start, file.failed_end = off, off + size
            file.failed_until = trio.current_time() + _ASKED_TWICE_S
            raise

    @_answers
    async def release(self, fh: FileHandleT) -> None:
        """Forget an open file."""
        file = self._files.release(fh)
        if isinstance(file, OpenFile) and not file.noted:
            file.reads.later(file.reads.opened, file.node, file.size)

    # Directories.

    @_answers
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Resolve a directory; waits for its NAR, which readdir must not do in the root."""
        return self._directories.add(await self._open_directory(inode))

    async def _open_directory(self, inode: int) -> OpenDirectory:
        if (top := self._tops.get(inode)) is not None:
            return OpenDirectory(inode, top.parent, top, None, top.children())
        attachment, id_ = self._at(inode)
        accessor = attachment.accessor
        listing = accessor.listing
        if listing is not None:
            node, children = listing.node(id_), listing.children(id_)
        else:
            node = await self._wait(attachment, accessor.node, id_)
            children = await self._wait(attachment, accessor.children, id_)
        parent = attachment.view.root if id_ == 0 else attachment.inode(node.parent, Kind.DIRECTORY)
        return OpenDirectory(inode, parent, None, attachment, children)

    @_answers
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List with attributes from a position on, as far as the kernel has room; nothing is built beforehand."""
        directory = self._directories.get(fh)
        if not self._list_dots(directory, start_id, token):
            return
        start = max(start_id, 2)
        children = enumerate(directory.children[start - 2 :], start + 1)
        if (top := directory.top) is not None:
            for position, child in children:
                if not readdir_reply(token, *top.listed(child), position):
                    return
            return
        attachment = directory.attachment
        assert attachment is not None  # noqa: S101 - what is no top lies in a NAR
        if (listing := attachment.accessor.listing) is not None:
            name_of, entry_of = listing.name, self._entries.verified
            for position, child in children:
                if not readdir_reply(token, name_of(child), entry_of(attachment, listing, child), position):
                    return
        else:
            for position, child in children:
                name = await self._wait(attachment, attachment.accessor.name, child)
                if not readdir_reply(token, name, await self._unverified(attachment, child), position):
                    return

    def _list_dots(self, directory: OpenDirectory, start: int, token: ReaddirToken) -> bool:
        """List ``.`` and ``..`` where they are due; whether there is room for more."""
        dots = ((b".", directory.inode), (b"..", directory.parent))
        return all(
            readdir_reply(token, name, self._entries.unlooked(inode, DIRECTORY_MODE), position)
            for position, (name, inode) in enumerate(dots[start:], start + 1)
        )

    @_answers
    async def releasedir(self, fh: FileHandleT) -> None:
        """Forget an open directory."""
        self._directories.release(fh)

    # The rest.

    @_answers
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Describe a full disk of what is attached; overlayfs takes no lower layer without it."""
        told = StatvfsData()
        told.f_bsize = told.f_frsize = BLOCK_BYTES
        told.f_blocks = -(-self.stage.inodes.nar_bytes // BLOCK_BYTES)
        told.f_files = len(self.stage.inodes)
        told.f_namemax = 255
        return told

    @_answers
    async def refuse(self, *_asked: object) -> NoReturn:
        """Answer every mutation."""
        raise ReadOnly("narfs is read-only")

    # The kernel refuses these by itself on a mount that is "ro"; a remount could ask.
    setattr: Any = refuse
    mknod: Any = refuse
    mkdir: Any = refuse
    unlink: Any = refuse
    rmdir: Any = refuse
    symlink: Any = refuse
    rename: Any = refuse
    link: Any = refuse
    write: Any = refuse
    create: Any = refuse

    async def _wait(self, attachment: Attachment, ask: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Wait for something of a tree."""
        scene = self.stage.of(attachment)
        with scene.reads.of(attachment).waiting():
            return await scene.waits.within(scene.read_deadline_s, ask, *args)
