"""What the kernel makes of our EROFS images: real mounts, the slab being an ordinary file."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs.daemon.linux import MNT_DETACH, MS_NODEV, MS_NOSUID, MS_RDONLY, mount, unmount
from narfs.formats.erofs.directory import packed_bytes
from narfs.formats.erofs.image import FIRST_PART_BLOCK, head, root_of
from narfs.formats.erofs.part import Layout
from narfs.formats.ls import from_ls
from tests.support.erofs import BLOCK, VIEW, Made, make_view
from tests.support.listings import listing_of
from tests.support.trees import ODD_TREE, File, Symlink, Tree, dump, nodes, read_from_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root mounts EROFS"),
    pytest.mark.skipif(
        "\terofs\n" not in Path("/proc/filesystems").read_text(encoding="ascii"), reason="needs a kernel with EROFS"
    ),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:  # the kernel takes no image on tmpfs or overlayfs
        yield Path(place)


@contextmanager
def mounted(made: Made) -> Iterator[Path]:
    place = made.image.with_name("mount")
    place.mkdir()
    options = f"device={made.slab},nouser_xattr,noacl"
    try:
        mount(str(made.image), str(place), kind="erofs", flags=MS_RDONLY | MS_NOSUID | MS_NODEV, options=options)
    except OSError as error:
        if error.errno == errno.ENOTBLK:
            pytest.skip(f"the kernel mounts no EROFS image from the file system of {made.image.parent}")
        raise
    try:
        yield place
    finally:
        unmount(str(place), MNT_DETACH)


def below(place: Path, path: bytes) -> bytes:
    return os.fsencode(place) + b"/" + path


def test_the_kernel_shows_the_trees_as_they_are(folder: Path) -> None:
    with mounted(make_view(folder, VIEW)) as place:
        assert read_from_disk(place) == VIEW
        for path, _ in nodes(dict(VIEW)):
            assert os.path.lexists(below(place, path))


def test_every_attribute_follows_from_the_tree(folder: Path) -> None:
    with mounted(make_view(folder, VIEW)) as place:
        for path, tree in nodes(dict(VIEW)):
            told = os.lstat(below(place, path))
            match tree:
                case File(contents, executable):
                    expected = (0o100555 if executable else 0o100444, 1, len(contents))
                case Symlink(target):
                    expected = (0o120777, 1, len(target))
                case _:
                    directories = sum(isinstance(child, dict) for child in tree.values())
                    expected = (0o40555, 2 + directories, packed_bytes(sorted(tree)))
            assert (told.st_mode, told.st_nlink, told.st_size) == expected, path
            assert told.st_blocks == -(-told.st_size // BLOCK) * 8, path
            assert (told.st_uid, told.st_gid) == (0, 0)
            assert (told.st_atime_ns, told.st_mtime_ns, told.st_ctime_ns) == (10**9,) * 3


def test_what_is_not_there_is_absent(folder: Path) -> None:
    with mounted(make_view(folder, VIEW)) as place:
        for directory in (b"", b"odd", b"many", b"directory"):
            for name in (b"!", b"-", b".-", b"..-", b"0", b"05000x", b"nothing", b"\xff\xff", b"x" * 255):
                with pytest.raises(FileNotFoundError):
                    os.lstat(below(place, directory + b"/" + name))


def test_statfs_shows_a_full_disk_of_the_size_of_the_nars(folder: Path) -> None:
    with mounted(make_view(folder, VIEW)) as place:
        told = os.statvfs(place)
    nar_bytes = sum(len(dump(tree)) for tree in VIEW.values())
    assert (told.f_bsize, told.f_namemax) == (BLOCK, 255)
    assert (told.f_blocks, told.f_bfree, told.f_bavail) == (-(-nar_bytes // BLOCK), 0, 0)


def test_there_are_no_extended_attributes_of_users(folder: Path) -> None:
    with mounted(make_view(folder, {b"a": File(b"x")})) as place:
        assert os.listxattr(place / "a") == []
        for name, refusal in (("user.x", errno.ENOTSUP), ("trusted.x", errno.ENODATA)):
            with pytest.raises(OSError, match=os.strerror(refusal)):
                os.getxattr(place / "a", name)


def test_two_paths_of_one_nar_share_inodes_of_files_but_not_of_directories(folder: Path) -> None:
    tree: Tree = {b"directory": {b"file": File(b"x" * 5000), b"link": Symlink(b"y")}}
    with mounted(make_view(folder, {b"a": tree, b"b": tree})) as place:
        for _ in range(2):  # a directory that the kernel moved would be gone from the first path
            assert read_from_disk(place) == {b"a": tree, b"b": tree}
        one, other = place / "a", place / "b"
        for name in ("directory/file", "directory/link"):
            assert (one / name).lstat().st_ino == (other / name).lstat().st_ino
        for name in ("", "directory"):
            assert (one / name).stat().st_ino != (other / name).stat().st_ino


def test_a_part_may_be_at_the_end_of_16_tib(folder: Path) -> None:
    listing = listing_of(ODD_TREE)
    with mounted(make_view(folder, {b"far": ODD_TREE}, first_block=(1 << 32) - 2 - Layout(listing).blocks)) as place:
        assert read_from_disk(place) == {b"far": ODD_TREE}
        assert (place / "far").stat().st_ino > 1 << 38


def test_a_file_of_more_than_4_gib_is_read_from_anywhere(folder: Path) -> None:
    size, slab_block = 5 << 30, (1 << 32) - (6 << 18)
    listing = from_ls(b'{"version":1,"root":{"type":"regular","size":%d}}' % size)
    part = Layout(listing).part(FIRST_PART_BLOCK, slab_block)
    made = Made(folder / "image", folder / "slab")
    with made.image.open("wb") as image:
        image.write(head([root_of(b"a", part, FIRST_PART_BLOCK)], inodes=1, nar_bytes=size))
        image.seek(FIRST_PART_BLOCK * BLOCK)
        image.write(part)
    marks = (0, (1 << 32) - 3, 1 << 32, size - 8)
    with made.slab.open("wb") as slab:  # near the end of what blocks of 32 bits can address
        for mark in marks:
            slab.seek(slab_block * BLOCK + mark)
            slab.write(b"%08x" % (mark >> 8))
    with mounted(made) as place, (place / "a").open("rb") as file:
        assert os.fstat(file.fileno()).st_size == size
        for mark in (0, size - 8):
            assert os.pread(file.fileno(), 100, mark)[:8] == b"%08x" % (mark >> 8)
        assert os.pread(file.fileno(), 11, (1 << 32) - 3) == b"00f" + b"01000000"
        assert os.pread(file.fileno(), 4096, 3 << 30) == bytes(4096)


def test_a_slab_that_ends_too_early_is_an_error_and_never_zeros(folder: Path) -> None:
    made = make_view(folder, {b"a": File(b"x" * 10_000)})
    os.truncate(made.slab, 5000)
    with mounted(made) as place, (place / "a").open("rb") as file:
        assert os.pread(file.fileno(), 4096, 0) == b"x" * 4096
        for offset in (4096, 8192):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                os.pread(file.fileno(), 100, offset)
