"""Handlers of the kernel's requests.

They convert and answer; what a store path looks like is decided in ``view``, what the root shows in ``roots``. All
handlers go through one funnel, which counts, translates by one table and logs. Everything below the root is immutable,
so whatever is verified is given to the kernel without end; most reads never come here.

A handler that knows its answer does not await: a request costs about 50 µs in kernel, libfuse and trio, a few µs here.
"""
# ruff: noqa: ARG002 - pyfuse3 decides what a handler is given

from __future__ import annotations

import functools
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar, TypeVarTuple

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, StatvfsData, readdir_reply

from narfs.errors import Corrupt, FormatError, IsADirectory, NotFound, ReadOnly
from narfs.formats.listing import Kind
from narfs.formats.store_path import StorePath
from narfs.mount.fuse.errnos import Failures, errno_of
from narfs.mount.fuse.recall import Recall
from narfs.mount.handles import Handles, OpenDirectory, OpenFile
from narfs.mount.names import Names
from narfs.mount.view import (
    BLOCK_BYTES,
    DIRECTORY_MODE,
    LINKS,
    LINKS_NAME,
    MODES,
    ROOT,
    TIME_NS,
    Attributes,
    directory_attributes,
    shown_root,
)
from narfs.offsets import FileOffset, in_nar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from pyfuse3 import FileHandleT, FileNameT, FlagT, InodeT, ReaddirToken, RequestContext

    from narfs.formats.listing import NarListing
    from narfs.mount.roots import Roots
    from narfs.mount.view import Attachment, View
    from narfs.mount.waits import Waits

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FOREVER_S = 1e9
"""Validity of what never changes: 31 years. The kernel counts in jiffies and takes no infinity."""

UNVERIFIED_S = 1.0
"""Validity of what only a peek told, or what grows while a NAR passes."""

_ASKED_TWICE_S = 1.0
"""The kernel repeats a failed read page by page; the answer is the same, without another wait."""


@dataclass(frozen=True, slots=True)
class MountStatistics:
    """Requests by handler and failures by errno name since the start; the rest is as of now."""

    requests: Mapping[str, int]
    failures: Mapping[str, int]
    bytes_read: int
    open_files: int
    waiting: int


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

    def __init__(self, view: View, roots: Roots, waits: Waits, *, read_deadline_s: float = 120.0) -> None:
        super().__init__()
        self.view = view
        self.usable = trio.Event()
        self.requests: Counter[str] = Counter()
        self.recall = Recall()
        self._failures = Failures()
        self._roots = roots
        self._waits = waits
        self._read_deadline_s = read_deadline_s
        self._bytes_read = 0
        self._files: Handles[OpenFile] = Handles()
        self._directories: Handles[OpenDirectory] = Handles()
        self._names = Names()
        self._owned = (view.uid, view.gid) != (0, 0)
        self._absent = self._negative(FOREVER_S)
        self._entries = {mode: self._entry(Attributes(ROOT, mode, 1, 0, 0)) for mode in MODES}

    def statistics(self) -> MountStatistics:
        """Count what was asked and what was answered."""
        return MountStatistics(
            requests=dict(self.requests),
            failures=self._failures.by_name(),
            bytes_read=self._bytes_read,
            open_files=len(self._files),
            waiting=len(self._waits),
        )

    def init(self) -> None:
        """Hear that kernel and session have agreed."""
        self.usable.set()

    # Names and attributes.

    @_answers
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """Find a name in a directory; absence is an answer with a validity, which an ENOENT would not have."""
        if parent_inode == ROOT:
            return await self._lookup_in_root(name)
        if parent_inode == LINKS:
            return self._absent
        attachment, directory = self.view.at(parent_inode)
        accessor = attachment.accessor
        listing = accessor.listing
        if listing is not None:
            child = self._names.child(parent_inode, listing, directory, name)
            return self._absent if child is None else self._verified(attachment, listing, child)
        child = await self._wait(accessor.child, directory, name)
        if child is None:
            return self._negative(_validity(attachment))
        return await self._unverified(attachment, child)

    async def _lookup_in_root(self, name: bytes) -> EntryAttributes:
        attachment = self.view.named(name)
        if attachment is None:
            if name == LINKS_NAME:
                return self._entry(directory_attributes(LINKS, entries=0, subdirectories=0))
            if self.view.closed:
                return self._absent
            try:
                path = StorePath.parse(name)
            except FormatError:
                return self._absent
            try:
                attachment = await self._roots.find(path)
            except NotFound:
                return self._negative(self._roots.absent_for(path))
        return self._root_entry(attachment)

    def _root_entry(self, attachment: Attachment) -> EntryAttributes:
        return self._entry(attachment.attributes(0, self._roots.show(attachment)), _validity(attachment))

    async def _unverified(self, attachment: Attachment, node: int) -> EntryAttributes:
        found = await self._wait(attachment.accessor.node, node)
        return self._entry(attachment.attributes(node, found.shape), _validity(attachment))

    @_answers
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Describe an inode."""
        if inode == ROOT:
            settled = self.view.closed and all(each.accessor.listing is not None for each in self.view.attachments)
            return self._entry(self.view.root_attributes(), FOREVER_S if settled else UNVERIFIED_S)
        if inode == LINKS:
            return self._entry(directory_attributes(LINKS, entries=0, subdirectories=0))
        attachment, node = self.view.at(inode)
        listing = attachment.accessor.listing
        if listing is not None:
            return self._verified(attachment, listing, node)
        return self._root_entry(attachment) if node == 0 else await self._unverified(attachment, node)

    @_answers
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """Give a symlink's target; asked each time, because pyfuse3 does not ask for CACHE_SYMLINKS."""
        attachment, node = self.view.at(inode)
        listing = attachment.accessor.listing
        return listing.target(node) if listing is not None else await self._wait(attachment.accessor.target, node)

    # Files.

    @_answers
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Resolve a file. Its pages stay in the kernel from one open to the next."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly("narfs is read-only")
        attachment, id_ = self.view.at(inode)
        accessor = attachment.accessor
        listing = accessor.listing
        node = listing.node(id_) if listing is not None else await self._wait(accessor.node, id_)
        if node.kind != Kind.REGULAR:
            raise IsADirectory(f"{attachment.path.path}: node {id_} is not a file")
        if accessor.listing is None:
            self.recall.note(accessor, inode)
        handle = self._files.add(OpenFile(accessor, node.nar_offset, node.size))
        return FileInfo(fh=handle, keep_cache=True)

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
        data = file.accessor.read_nowait(in_nar(file.contents, FileOffset(off)), size)
        if data is None:
            data = await self._read_waiting(file, off, size)
        return data

    async def _read_waiting(self, file: OpenFile, off: int, size: int) -> bytes:
        if file.failed_before(off, size, trio.current_time()):
            raise FUSEError(file.failed_errno)
        try:
            return await self._wait(file.accessor.read, in_nar(file.contents, FileOffset(off)), size)
        except Exception as error:
            file.failed_errno = errno_of(error)
            file.failed_start, file.failed_end = off, off + size
            file.failed_until = trio.current_time() + _ASKED_TWICE_S
            raise

    @_answers
    async def release(self, fh: FileHandleT) -> None:
        """Forget an open file."""
        self._files.release(fh)

    # Directories.

    @_answers
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Resolve a directory; waits for its NAR, which readdir must not do in the root."""
        return self._directories.add(await self._open_directory(inode))

    async def _open_directory(self, inode: int) -> OpenDirectory:
        if inode == ROOT:
            return OpenDirectory(ROOT, ROOT, None, self.view.attachments)
        if inode == LINKS:
            return OpenDirectory(LINKS, ROOT, None, ())
        attachment, id_ = self.view.at(inode)
        accessor = attachment.accessor
        listing = accessor.listing
        if listing is not None:
            node, children = listing.node(id_), listing.children(id_)
        else:
            node = await self._wait(accessor.node, id_)
            children = await self._wait(accessor.children, id_)
        parent = ROOT if id_ == 0 else attachment.inode(node.parent, Kind.DIRECTORY)
        return OpenDirectory(inode, parent, attachment, children)

    @_answers
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """List with attributes from a position on, as far as the kernel has room; nothing is built beforehand."""
        directory = self._directories.get(fh)
        if not self._list_dots(directory, start_id, token):
            return
        start = max(start_id, 2)
        attachment = directory.attachment
        if attachment is None:
            for position, child in enumerate(directory.children[start - 2 :], start + 1):
                if not readdir_reply(token, child.path.base_name.encode("ascii"), self._listed_root(child), position):
                    return
        elif (listing := attachment.accessor.listing) is not None:
            name_of, entry_of = listing.name, self._verified
            for position, child in enumerate(directory.children[start - 2 :], start + 1):
                if not readdir_reply(token, name_of(child), entry_of(attachment, listing, child), position):
                    return
        else:
            for position, child in enumerate(directory.children[start - 2 :], start + 1):
                name = await self._wait(attachment.accessor.name, child)
                if not readdir_reply(token, name, await self._unverified(attachment, child), position):
                    return

    def _list_dots(self, directory: OpenDirectory, start: int, token: ReaddirToken) -> bool:
        """List ``.`` and ``..`` where they are due; whether there is room for more."""
        dots = ((b".", directory.inode), (b"..", directory.parent))
        return all(
            readdir_reply(token, name, self._unlooked(inode, DIRECTORY_MODE), position)
            for position, (name, inode) in enumerate(dots[start:], start + 1)
        )

    def _listed_root(self, attachment: Attachment) -> EntryAttributes:
        """Describe a child of the root; one of unknown kind has no mode, so the kernel lists it and asks later."""
        shape = shown_root(attachment.accessor)
        if shape is None:
            return self._unlooked(attachment.base, 0)
        return self._entry(attachment.attributes(0, shape), _validity(attachment))

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
        told.f_blocks = -(-sum(each.accessor.nar_size for each in self.view.attachments) // BLOCK_BYTES)
        told.f_files = len(self.view.attachments)
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

    def _wait(self, ask: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> Awaitable[T]:
        return self._waits.within(self._read_deadline_s, ask, *args)

    def _verified(self, attachment: Attachment, listing: NarListing, node: int) -> EntryAttributes:
        """Describe a verified node in the one entry kept for its mode; good until the next await, which is long enough.

        A new entry with all its fields costs 1.5 µs, for each name of each listing; these four 0.2.
        """
        inode, mode, nlink, size, blocks = attachment.attributes(node, listing.shape(node))
        entry = self._entries[mode]
        entry.st_ino, entry.st_nlink, entry.st_size, entry.st_blocks = inode, nlink, size, blocks
        return entry

    def _entry(self, attributes: Attributes, valid_s: float = FOREVER_S) -> EntryAttributes:
        entry = EntryAttributes()
        inode, entry.st_mode, entry.st_nlink, entry.st_size, entry.st_blocks = attributes
        entry.st_ino = inode
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = TIME_NS
        entry.entry_timeout = entry.attr_timeout = valid_s
        if self._owned:
            entry.st_uid, entry.st_gid = self.view.uid, self.view.gid
        return entry

    @staticmethod
    def _negative(valid_s: float) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = valid_s
        return entry

    @staticmethod
    def _unlooked(inode: int, mode: int) -> EntryAttributes:
        """Name an inode in a listing without telling more of it; the kernel looks it up when asked for."""
        entry = EntryAttributes()
        entry.st_ino, entry.st_mode = inode, mode
        entry.entry_timeout = entry.attr_timeout = 0
        return entry


def _validity(attachment: Attachment) -> float:
    return FOREVER_S if attachment.accessor.listing is not None else UNVERIFIED_S
