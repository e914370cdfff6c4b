"""A bare pyfuse3 file system over dicts: what the library itself costs, as near as we can write it.

Everything is made before the mount: every attribute, every directory in the order of its listing, every content as
bytes. Timeouts, mount options and concurrency are narfs's; there is no error handling, no counting and no lake.
"""
# ruff: noqa: ARG002, D102 - pyfuse3 decides what a handler is given, and says what it does

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyfuse3
import trio
from pyfuse3 import ROOT_INODE, EntryAttributes, FileHandleT, FileInfo, readdir_reply

if TYPE_CHECKING:
    from pyfuse3 import FileNameT, FlagT, InodeT, ReaddirToken, RequestContext

_FOREVER_S = 1e9


class Bare(pyfuse3.Operations):
    """Answers from dicts by inode."""

    supports_dot_lookup = False

    def __init__(self, tree: bytes) -> None:
        super().__init__()
        self._entries: dict[int, EntryAttributes] = {}
        self._names: dict[int, dict[bytes, EntryAttributes]] = {}
        self._lists: dict[int, list[tuple[bytes, EntryAttributes, int]]] = {}
        self._contents: dict[int, bytes] = {}
        self._open: dict[int, FileInfo] = {}
        self._absent = EntryAttributes()
        self._absent.st_ino = 0
        self._absent.entry_timeout = _FOREVER_S
        self._load(tree, self._entry(os.lstat(tree)))

    def _entry(self, status: os.stat_result) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = ROOT_INODE + len(self._entries)
        entry.st_mode = stat.S_IFMT(status.st_mode) | 0o555
        entry.st_nlink = status.st_nlink
        entry.st_size = status.st_size
        entry.st_blocks = -(-status.st_size // 512)
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = 1_000_000_000
        entry.entry_timeout = entry.attr_timeout = _FOREVER_S
        self._entries[entry.st_ino] = entry
        return entry

    def _load(self, path: bytes, entry: EntryAttributes) -> None:
        inode = entry.st_ino
        if stat.S_ISREG(entry.st_mode):
            self._contents[inode] = Path(os.fsdecode(path)).read_bytes()
            self._open[inode] = FileInfo(fh=FileHandleT(inode), keep_cache=True)
        elif stat.S_ISLNK(entry.st_mode):
            self._contents[inode] = os.readlink(path)  # noqa: PTH115 - names are bytes
        else:
            listed = sorted(os.listdir(path))  # noqa: PTH208 - names are bytes
            names = {name: self._entry(os.lstat(path + b"/" + name)) for name in listed}
            self._names[inode] = names
            self._lists[inode] = [(name, child, position) for position, (name, child) in enumerate(names.items(), 1)]
            for name, child in names.items():
                self._load(path + b"/" + name, child)

    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        return self._names[parent_inode].get(name, self._absent)

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self._entries[inode]

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return self._contents[inode]

    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        return self._open[inode]

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return self._contents[fh][off : off + size]

    async def release(self, fh: FileHandleT) -> None:
        pass

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(inode)

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        for name, entry, position in self._lists[fh][start_id:]:
            if not readdir_reply(token, name, entry, position):
                return

    async def releasedir(self, fh: FileHandleT) -> None:
        pass


def main(tree: str, mountpoint: str) -> None:
    """Serve until unmounted; ``python -m benchmarks.bare TREE MOUNTPOINT``."""
    words = {"ro", "nosuid", "nodev", "default_permissions", "allow_other", "fsname=bare"}
    pyfuse3.init(Bare(os.fsencode(tree)), mountpoint, words)
    try:
        trio.run(lambda: pyfuse3.main(min_tasks=8, max_tasks=2048))
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
