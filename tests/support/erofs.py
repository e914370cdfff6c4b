"""EROFS images as files with their slab, and a reader of them that shares nothing with the writer."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import dataclass
from struct import unpack_from
from typing import TYPE_CHECKING

from narfs.formats.erofs.image import FIRST_PART_BLOCK, head, root_of
from narfs.formats.erofs.part import Layout
from tests.support.listings import listing_of
from tests.support.trees import ODD_TREE, File, Symlink, Tree, dump

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from narfs.formats.listing import NarListing

BLOCK = 4096

MANY: Tree = {b"%05d" % number: File(b"%d" % number) if number % 3 else {} for number in range(10_000)}
DEEP: Tree = File(b"at the bottom")
for _ in range(63):
    DEEP = {b"d": DEEP}

VIEW: Mapping[bytes, Tree] = {
    b"odd": ODD_TREE,
    b"many": MANY,
    b"deep": DEEP,
    b"file": File(b"contents of a root"),
    b"executable": File(b"#!", executable=True),
    b"empty": File(),
    b"link": Symlink(b"odd/a"),
    b"longest-link": Symlink(b"l" * 4095),
    b"directory": {},
}
"""One View with everything that is legal in one."""


@dataclass(frozen=True)
class Inode:
    mode: int
    links: int
    size: int
    data: bytes = b""
    """Of a directory or symlink."""
    slab_at: int | None = None
    """Where a file's contents are."""


class ErofsImage:
    """What is in an image; every rule of the format that is broken is an AssertionError."""

    def __init__(self, image: Path, slab: Path) -> None:
        self._image = os.open(image, os.O_RDONLY)
        self._slab = os.open(slab, os.O_RDONLY)
        superblock = os.pread(self._image, 128, 1024)
        magic, _, _, block_bits, _, self.root = unpack_from("<IIIBBH", superblock)
        assert (magic, block_bits) == (0xE0F5E1E2, 12)
        assert unpack_from("<QQI", superblock, 16)[1:] == (1, 0), "built in second 1"
        assert unpack_from("<I", superblock, 80) == (0x0C,), "chunk-based files and a device table, nothing else"
        assert unpack_from("<HH", superblock, 86) == (1, 1152 // 128), "one device, right behind"

    def close(self) -> None:
        os.close(self._image)
        os.close(self._slab)

    def tree(self, nid: int, parent: int) -> Tree:
        inode = self.inode(nid)
        match stat.S_IFMT(inode.mode):
            case stat.S_IFREG:
                contents = b"" if inode.slab_at is None else os.pread(self._slab, inode.size, inode.slab_at)
                assert len(contents) == inode.size
                assert stat.S_IMODE(inode.mode) in (0o444, 0o555)
                return File(contents, inode.mode & 0o111 != 0)
            case stat.S_IFLNK:
                assert stat.S_IMODE(inode.mode) == 0o777
                return Symlink(inode.data)
            case _:
                assert inode.mode == stat.S_IFDIR | 0o555
                entries = self.entries(inode)
                assert entries.pop(b".") == (nid, 2)
                assert entries.pop(b"..") == (parent, 2)
                assert inode.links == 2 + sum(type_ == 2 for _, type_ in entries.values())
                found = {name: self.tree(child, nid) for name, (child, _) in entries.items()}
                kinds = {File: 1, dict: 2, Symlink: 7}
                assert all(kinds[type(found[name])] == type_ for name, (_, type_) in entries.items())
                return found

    def inode(self, nid: int) -> Inode:
        at = 32 * nid
        fixed = os.pread(self._image, 64, at)
        format_, xattrs, mode = unpack_from("<HHH", fixed)
        assert not xattrs
        if format_ & 1:
            size, place = unpack_from("<QI", fixed, 8)
            assert unpack_from("<IIQI", fixed, 24) == (0, 0, 1, 0), "root's, of second 1"
            (links,) = unpack_from("<I", fixed, 44)
            behind = at + 64
        else:
            links, size, _, place = unpack_from("<HIII", fixed, 6)
            assert unpack_from("<HH", fixed, 24) == (0, 0), "root's"
            behind = at + 32
        match format_ >> 1:
            case 4:
                assert (stat.S_ISREG(mode), place & 0xFFFF) == (True, 0x20 | 31)
                _, device, block = unpack_from("<HHI", os.pread(self._image, 8, behind))
                assert device == 1
                return Inode(mode, links, size, slab_at=block * BLOCK)
            case 0:
                assert not (stat.S_ISREG(mode) and size)
                return Inode(mode, links, size, os.pread(self._image, size, place * BLOCK) if size else b"")
            case layout:
                assert layout == 2
                full = size // BLOCK * BLOCK
                assert behind // BLOCK == (behind + size - full - 1) // BLOCK == at // BLOCK, "no piece crosses a block"
                data = os.pread(self._image, full, place * BLOCK) + os.pread(self._image, size - full, behind)
                return Inode(mode, links, size, data)

    def entries(self, directory: Inode) -> dict[bytes, tuple[int, int]]:
        """Names with nid and type; they must be sorted."""
        found = []
        for at in range(0, directory.size, BLOCK):
            block = directory.data[at : at + BLOCK]
            count = unpack_from("<H", block, 8)[0] // 12
            records = [unpack_from("<QHB", block, 12 * number) for number in range(count)]
            ends = [name_at for _, name_at, _ in records[1:]] + [len(block)]
            for (nid, name_at, type_), end in zip(records, ends, strict=True):
                found.append((block[name_at:end].rstrip(b"\0"), (nid, type_)))
        assert [name for name, _ in found] == sorted({name for name, _ in found})
        return dict(found)


@dataclass(frozen=True)
class Made:
    """An image and its slab on disk."""

    image: Path
    slab: Path

    def read(self) -> Tree:
        """Read all of it with the reader of the tests."""
        reader = ErofsImage(self.image, self.slab)
        try:
            return reader.tree(reader.root, reader.root)
        finally:
            reader.close()

    def check(self) -> None:
        """Have fsck.erofs read all of it."""
        said = subprocess.run(
            ["fsck.erofs", f"--device={self.slab}", "--extract", self.image],
            check=False,
            capture_output=True,
            text=True,
        )
        assert (said.returncode, said.stderr) == (0, ""), said


def write_slab(slab: Path, layout: Layout, listing: NarListing, nar: bytes, block: int) -> None:
    """Put the contents of a NAR where its part says they are."""
    with slab.open("r+b") as file:
        for id_, start in enumerate(layout.slab.starts):
            node = listing.node(id_)
            if node.nar_offset:
                file.seek((block + start) * BLOCK)
                file.write(nar[node.nar_offset : node.nar_offset + node.size])
        file.truncate(max((block + layout.slab.range_blocks) * BLOCK, os.fstat(file.fileno()).st_size))


def make_view(folder: Path, view: Mapping[bytes, Tree], *, first_block: int = FIRST_PART_BLOCK, gap: int = 3) -> Made:
    """Make an image and its slab as a daemon does; a NAR that comes twice shares its files."""
    made = Made(folder / "image", folder / "slab")
    made.slab.write_bytes(b"")
    block, slab_block, inodes, nar_bytes = first_block, 0, 0, 0
    known: dict[bytes, tuple[int, int]] = {}
    roots = []
    with made.image.open("wb") as image:
        for name, tree in view.items():
            nar = dump(tree)
            listing = listing_of(tree)
            layout = Layout(listing)
            shared_block, contents = known.setdefault(nar, (block, slab_block))
            part = layout.part(block, contents, shared_block=shared_block)
            assert len(part) == layout.blocks * BLOCK
            if shared_block == block:
                write_slab(made.slab, layout, listing, nar, contents)
                slab_block += layout.slab.range_blocks
            roots.append(root_of(name, part, block, shared_block=shared_block))
            image.seek(block * BLOCK)
            image.write(part)
            block += layout.blocks + gap
            inodes += len(listing)
            nar_bytes += len(nar)
        image.seek(0)
        image.write(head(roots, inodes=inodes, nar_bytes=nar_bytes))
    return made
