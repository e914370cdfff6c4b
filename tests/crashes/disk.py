"""A disk that loses what was not synced, and fails on order: one file of a FUSE file system, below a loop device.

ext4 writes to the loop device, which writes here; its barriers arrive as fsync. So this knows what a real disk may lose
in a power cut: any of the writes since the last barrier, in pieces of 4 KiB. On standard input it is told

    image PATH SEED     write the disk as a power cut at this moment leaves it; 0: without anything that was not synced
    fail read|write     answer EIO from now on (several may be given); ``fail`` alone: no longer

and it says a line when that is done.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyfuse3
import trio

from tests.mount.kernel import is_mount, unmount

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
NAME = b"disk.img"
PIECE = 4096
_INODE = pyfuse3.InodeT(2)


class Platter(pyfuse3.Operations):
    """The file system: a root directory and the disk in it."""

    supports_dot_lookup = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.now = bytearray(size)
        self.synced = bytearray(size)
        self.pending: list[tuple[int, bytes]] = []
        self.failing: set[str] = set()

    def image(self, chance: random.Random | None) -> bytes:
        """Give the disk after a power cut; by chance some of the writes that were not synced are on it."""
        disk = bytearray(self.synced)
        share = 0.0 if chance is None else chance.choice([0, 0.1, 0.5, 0.9, 1])
        for start, data in self.pending:
            for at in range(0, len(data), PIECE):
                if chance is not None and chance.random() < share:
                    disk[start + at : start + min(at + PIECE, len(data))] = data[at : at + PIECE]
        return bytes(disk)

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if parent_inode != pyfuse3.ROOT_INODE or name != NAME:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(_INODE, ctx)

    async def getattr(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext | None = None,  # noqa: ARG002
    ) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = pyfuse3.ModeT(0o040700 if inode == pyfuse3.ROOT_INODE else 0o100600)
        entry.st_size = len(self.now)
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        return entry

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,  # noqa: ARG002 - times; its size stays
        fields: pyfuse3.SetattrFields,  # noqa: ARG002
        fh: pyfuse3.FileHandleT | None,  # noqa: ARG002
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        return await self.getattr(inode, ctx)

    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:  # noqa: ARG002
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), direct_io=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:  # noqa: ARG002
        if "read" in self.failing:
            raise pyfuse3.FUSEError(errno.EIO)
        return bytes(self.now[off : off + size])

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:  # noqa: ARG002
        if "write" in self.failing:
            raise pyfuse3.FUSEError(errno.EIO)
        self.now[off : off + len(buf)] = buf
        self.pending.append((off, buf))
        return len(buf)

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:  # noqa: ARG002
        if "write" in self.failing:
            raise pyfuse3.FUSEError(errno.EIO)
        for start, data in self.pending:
            self.synced[start : start + len(data)] = data
        self.pending.clear()


async def serve(place: str, size: int) -> None:
    platter = Platter(size)
    pyfuse3.init(platter, place, {*pyfuse3.default_options, "fsname=tests-disk"} - {"default_permissions"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        commands = trio.lowlevel.FdStream(os.dup(0))
        heard = b""
        while part := await commands.receive_some(4096):
            heard += part
            while b"\n" in heard:
                line, _, heard = heard.partition(b"\n")
                obey(platter, line.decode().split())
                os.write(1, b"done\n")
        pyfuse3.terminate()


def obey(platter: Platter, words: list[str]) -> None:
    if words[0] == "fail":
        platter.failing = set(words[1:])
    else:
        _, path, seed = words
        write_sparse(Path(path), platter.image(random.Random(int(seed)) if int(seed) else None))  # noqa: S311


def write_sparse(path: Path, data: bytes) -> None:
    hole = bytes(PIECE)
    with path.open("wb") as file:
        for start in range(0, len(data), PIECE):
            if (piece := data[start : start + PIECE]) != hole:
                file.seek(start)
                file.write(piece)
        file.truncate(len(data))


@dataclass
class Disk:
    """It, as its user sees it: ``place`` is where its ext4 is mounted."""

    process: subprocess.Popen[str]
    place: Path

    def _order(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def cut(self, image: Path, seed: int) -> None:
        """Keep what a power cut at this moment would leave."""
        self._order(f"image {image} {seed}")

    def fail(self, *kinds: str) -> None:
        """Let reads or writes of the device fail from now on."""
        self._order(f"fail {' '.join(kinds)}")


@contextmanager
def disk(directory: Path, size: int, *options: str) -> Iterator[Disk]:
    """Make a disk and mount it, below ``directory``."""
    fuse, place = directory / "fuse", directory / "disk"
    fuse.mkdir()
    place.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crashes.disk", str(fuse), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    with process:
        try:
            while not is_mount(fuse):
                assert process.poll() is None
            subprocess.run(["mkfs.ext4", "-q", "-E", "nodiscard", fuse / NAME.decode()], check=True)
            with mounted_image(fuse / NAME.decode(), place, *options):
                yield Disk(process, place)
        finally:
            unmount(fuse)
            process.kill()


@contextmanager
def mounted_image(image: Path, place: Path, *options: str) -> Iterator[Path]:
    """Mount an image, which replays its journal."""
    place.mkdir(exist_ok=True)
    words = ",".join(["loop", *options])
    subprocess.run(["mount", "-t", "ext4", "-o", words, image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1], int(sys.argv[2]))
