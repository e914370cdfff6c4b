"""What a program sees: one test for each sentence of docs/semantics.md."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from narfs.formats.erofs.directory import packed_bytes
from narfs.mount.view import View
from tests.mount.frontends import FRONTENDS, Mounting
from tests.mount.kernel import in_namespace, needs_fuse, needs_root, python, read_tree, run, sys_
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import File, Symlink, Tree, trees

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.mount, needs_fuse]


@pytest.fixture(params=FRONTENDS)
def mounted(request: pytest.FixtureRequest) -> Mounting:
    given: Mounting = request.param
    return given


LARGE = bytes(range(256)) * 3000
TREE: Tree = {
    b"bin": {b"run": File(b"#!/bin/sh\necho ran $1\n", executable=True)},
    b"empty-directory": {},
    b"empty-file": File(),
    b"large": File(LARGE),
    b"link": Symlink(b"bin/run"),
    b"many": {b"f%04d" % i: File(b"%d" % i) for i in range(1500)},
}


def view(**trees: Tree) -> View:
    return View.of((path(name), MemoryAccessor(tree)) for name, tree in trees.items())


def at(place: Path, name: str, below: str = "") -> Path:
    return place / path(name).base_name / below


async def errno_of(call: Callable[..., object], *args: object) -> int | None:
    with pytest.raises(OSError) as failed:  # noqa: PT011 - the errno is looked at
        await sys_(call, *args)
    return failed.value.errno


async def test_modes_are_those_of_the_nix_store(tmp_path: Path, mounted: Mounting) -> None:
    async with mounted(view(one=TREE), tmp_path / "m"):
        one = at(tmp_path / "m", "one")
        shown = {name: (await sys_(os.lstat, one / name)).st_mode for name in ("", "bin", "bin/run", "large", "link")}
        assert shown == {
            "": stat.S_IFDIR | 0o555,
            "bin": stat.S_IFDIR | 0o555,
            "bin/run": stat.S_IFREG | 0o555,
            "large": stat.S_IFREG | 0o444,
            "link": stat.S_IFLNK | 0o777,
        }
        root = await sys_(os.stat, tmp_path / "m")
        assert root.st_mode == stat.S_IFDIR | 0o555


async def test_a_symlink_has_the_size_of_its_target(tmp_path: Path, mounted: Mounting) -> None:
    async with mounted(view(one=TREE), tmp_path / "m"):
        link = at(tmp_path / "m", "one", "link")
        assert (await sys_(os.lstat, link)).st_size == len(await sys_(os.readlink, link)) == len("bin/run")


async def test_everything_belongs_to_root_and_is_of_second_one(tmp_path: Path, mounted: Mounting) -> None:
    async with mounted(view(one=TREE), tmp_path / "m"):
        for place in (tmp_path / "m", at(tmp_path / "m", "one"), at(tmp_path / "m", "one", "large")):
            found = await sys_(os.lstat, place)
            assert (found.st_uid, found.st_gid) == (0, 0)
            assert (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) == (10**9, 10**9, 10**9)


async def test_inode_numbers_are_the_same_in_listing_and_stat_and_after_a_restart(
    tmp_path: Path, mounted: Mounting
) -> None:
    def numbers() -> dict[str, int]:
        found = {}
        for directory, _, _ in os.walk(tmp_path / "m"):
            with os.scandir(directory) as entries:
                for entry in entries:
                    found[entry.path] = entry.inode()
                    assert entry.inode() == os.lstat(entry.path).st_ino
        return found

    async with mounted(view(one=TREE, two=TREE), tmp_path / "m"):
        before = await sys_(numbers)
    async with mounted(view(two=TREE, one=TREE), tmp_path / "m"):
        assert await sys_(numbers) == before


async def test_two_paths_with_the_same_nar_have_one_page_cache(tmp_path: Path, mounted: Mounting) -> None:
    accessor = MemoryAccessor(TREE)
    async with mounted(View.of([(path("one"), accessor), (path("two"), accessor)]), tmp_path / "m") as served:
        await sys_(at(tmp_path / "m", "one", "large").read_bytes)
        await wait_all_tasks_blocked(0.05)  # what the kernel reads ahead may still come
        reads = served.statistics().requests["read"]
        assert await sys_(at(tmp_path / "m", "two", "large").read_bytes) == LARGE
        assert served.statistics().requests["read"] == reads
        assert await sys_(os.listdir, at(tmp_path / "m", "two", "bin")) == ["run"]
        assert await sys_(os.listdir, at(tmp_path / "m", "one", "bin")) == ["run"]


async def test_link_counts_and_blocks_are_right(tmp_path: Path, mounted: Mounting) -> None:
    def check() -> None:
        for directory, subdirectories, files in os.walk(tmp_path / "m"):
            found = os.lstat(directory)
            assert found.st_nlink == 2 + len(subdirectories), directory
            assert found.st_size == packed_bytes(sorted(map(os.fsencode, subdirectories + files)))
            for name in (*files, "."):
                each = os.lstat(Path(directory, name))
                assert each.st_blocks == -(-each.st_size // 4096) * 8
                assert name == "." or each.st_nlink == 1

    async with mounted(view(one=TREE, two={b"a": {}}), tmp_path / "m"):
        await sys_(check)


async def test_a_store_path_may_be_a_file_or_a_symlink(tmp_path: Path, mounted: Mounting) -> None:
    async with mounted(view(file=File(b"text"), script=File(b"#!", True), link=Symlink(b"/nowhere")), tmp_path / "m"):
        m = tmp_path / "m"
        assert await sys_(at(m, "file").read_bytes) == b"text"
        assert stat.S_IMODE((await sys_(os.stat, at(m, "script"))).st_mode) == 0o555
        assert await sys_(os.readlink, at(m, "link")) == "/nowhere"


async def test_names_are_bytes(tmp_path: Path, mounted: Mounting) -> None:
    names = [b"\xff\xfe", b"new\nline", b"n" * 255, b"-", b" ", b"~nix~case~hack~1", b"\x01", "ü".encode()]
    tree: Tree = {name: File(name) for name in names}
    async with mounted(view(one=tree), tmp_path / "m"):
        assert await sys_(read_tree, bytes(at(tmp_path / "m", "one"))) == tree


async def test_empty_files_and_directories_are_there(tmp_path: Path, mounted: Mounting) -> None:
    async with mounted(view(one=TREE, nothing={}), tmp_path / "m"):
        one = at(tmp_path / "m", "one")
        assert await sys_((one / "empty-file").read_bytes) == b""
        assert await sys_(os.listdir, one / "empty-directory") == []
        assert await sys_(os.listdir, at(tmp_path / "m", "nothing")) == []


async def test_every_mutation_is_refused_as_read_only(tmp_path: Path, mounted: Mounting) -> None:
    async with mounted(view(one=TREE), tmp_path / "m"):
        m, one = tmp_path / "m", at(tmp_path / "m", "one")
        for call, *args in (
            (os.mkdir, m / "new"),
            (os.mkdir, one / "new"),
            (os.rmdir, one / "empty-directory"),
            (os.unlink, one / "large"),
            (os.rename, one / "large", one / "larger"),
            (os.symlink, "x", one / "new"),
            (os.link, one / "large", one / "new"),
            (os.mkfifo, one / "new"),
            (os.chmod, one / "large", 0o777),
            (os.chown, one / "large", 1, 1),
            (os.utime, one / "large"),
            (os.truncate, one / "large", 0),
            (os.open, one / "large", os.O_WRONLY),
            (os.open, one / "large", os.O_RDWR),
            (os.open, one / "new", os.O_CREAT | os.O_WRONLY),
            (os.setxattr, one / "large", "user.x", b""),
        ):
            assert await errno_of(call, *args) == errno.EROFS, call


async def test_there_are_no_extended_attributes(tmp_path: Path, mounted: Mounting) -> None:
    def listed(place: Path) -> list[str] | int | None:
        try:
            return os.listxattr(place)
        except OSError as error:
            return error.errno

    async with mounted(view(one=TREE), tmp_path / "m") as served:
        large = at(tmp_path / "m", "one", "large")
        assert await sys_(listed, large) in ([], errno.ENOTSUP)
        assert await errno_of(os.getxattr, large, "user.x") == errno.ENOTSUP
        requests = sum(served.statistics().requests.values())
        assert await errno_of(os.getxattr, large, "security.capability") in (errno.ENOTSUP, errno.ENODATA)
        assert sum(served.statistics().requests.values()) == requests


async def test_statfs_shows_a_full_disk(tmp_path: Path, mounted: Mounting) -> None:
    async with mounted(view(one=TREE), tmp_path / "m"):
        found = await sys_(os.statvfs, tmp_path / "m")
        assert (found.f_bsize, found.f_bavail, found.f_namemax) == (4096, 0, 255)
        assert found.f_blocks * 4096 >= len(LARGE)
        assert found.f_flag & os.ST_RDONLY


async def test_a_listing_gives_every_name_once_with_dots(tmp_path: Path, mounted: Mounting) -> None:
    async with mounted(view(one=TREE), tmp_path / "m"):
        many = at(tmp_path / "m", "one", "many")
        listed = (await run("ls", "-fU", many)).split("\n")[:-1]
        assert sorted(listed) == [".", "..", *(f"f{i:04}" for i in range(1500))]
        inodes = {line.split()[1]: line.split()[0] for line in (await run("ls", "-fUi", many)).splitlines()}
        assert inodes["."] == str((await sys_(os.stat, many)).st_ino)
        assert inodes[".."] == str((await sys_(os.stat, many.parent)).st_ino)


async def test_a_listing_can_be_resumed_anywhere(tmp_path: Path, mounted: Mounting) -> None:
    script = """if 1:
        import ctypes, os, sys
        libc = ctypes.CDLL(None, use_errno=True)
        libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
        libc.opendir.argtypes, libc.readdir.argtypes = [ctypes.c_char_p], [ctypes.c_void_p]
        libc.telldir.argtypes, libc.seekdir.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_long]
        libc.telldir.restype = ctypes.c_long
        directory = libc.opendir(os.fsencode(sys.argv[1]))
        name = lambda: (entry := libc.readdir(directory)) and ctypes.string_at(entry + 19)
        places = []
        while True:
            place = libc.telldir(directory)
            if not (found := name()): break
            places.append((place, found))
        for place, found in places[::-7]:
            libc.seekdir(directory, place)
            assert name() == found, (place, found)
        print(len(places))
    """
    async with mounted(view(one=TREE), tmp_path / "m"):
        assert int(await python(script, at(tmp_path / "m", "one", "many"))) == 1502


async def test_pread_gives_what_is_at_any_offset(tmp_path: Path, mounted: Mounting) -> None:
    def check() -> None:
        fd = os.open(at(tmp_path / "m", "one", "large"), os.O_RDONLY)
        for offset in (0, 1, 4095, 4096, 131_071, 500_000, len(LARGE) - 1):
            for size in (1, 4096, 5000, 1 << 20):
                assert os.pread(fd, size, offset) == LARGE[offset : offset + size]
        os.close(fd)

    async with mounted(view(one=TREE), tmp_path / "m"):
        await sys_(check)


async def test_a_read_past_the_end_is_empty(tmp_path: Path, mounted: Mounting) -> None:
    def check() -> None:
        fd = os.open(at(tmp_path / "m", "one", "large"), os.O_RDONLY)
        assert os.pread(fd, 10, len(LARGE) - 3) == LARGE[-3:]
        assert [os.pread(fd, 10, offset) for offset in (len(LARGE), len(LARGE) + 1, 1 << 40)] == [b"", b"", b""]
        os.close(fd)

    async with mounted(view(one=TREE), tmp_path / "m"):
        await sys_(check)


async def test_a_file_can_be_mapped(tmp_path: Path, mounted: Mounting) -> None:
    script = """if 1:
        import hashlib, mmap, sys
        with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            print(hashlib.sha256(mapped).hexdigest(), mapped[700_000])
    """
    async with mounted(view(one=TREE), tmp_path / "m"):
        mapped, _ = (await python(script, at(tmp_path / "m", "one", "large"))).split()
        assert mapped == (await run("sha256sum", at(tmp_path / "m", "one", "large"))).split()[0]


async def test_programs_and_scripts_run_from_the_mount(tmp_path: Path, mounted: Mounting) -> None:
    tree: Tree = {
        b"true": File(await sys_(Path("/bin/true").read_bytes), executable=True),
        b"echo": File(await sys_(Path("/bin/echo").read_bytes), executable=True),
        b"run": File(b"#!/bin/sh\necho ran $1\n", executable=True),
        b"text": File(b"#!/bin/sh\n"),
    }
    async with mounted(view(one=tree), tmp_path / "m"):
        one = at(tmp_path / "m", "one")
        assert await run("sh", "-c", f"{one}/true && {one}/echo hello && {one}/run 7") == "hello\nran 7\n"
        assert "denied" in await run("sh", "-c", f"{one}/text 2>&1 || true")


async def test_sendfile_and_copy_file_range_give_the_contents(tmp_path: Path, mounted: Mounting) -> None:
    def send() -> bytes:
        source = os.open(at(tmp_path / "m", "one", "large"), os.O_RDONLY)
        target = os.open(tmp_path / "sent", os.O_CREAT | os.O_RDWR)
        offset = 0
        while sent := os.sendfile(target, source, offset, 1 << 20):
            offset += sent
        os.close(source)
        os.close(target)
        return (tmp_path / "sent").read_bytes()

    def copy_range() -> bytes:
        source = os.open(at(tmp_path / "m", "one", "large"), os.O_RDONLY)
        target = os.open(tmp_path / "copied", os.O_CREAT | os.O_RDWR)
        try:
            while os.copy_file_range(source, target, 1 << 20):
                pass
        except OSError as error:
            # Between two file systems the kernel may leave it to the caller, who copies; cp does.
            return errno.errorcode[error.errno or 0].encode()
        finally:
            os.close(source)
            os.close(target)
        return (tmp_path / "copied").read_bytes()

    async with mounted(view(one=TREE), tmp_path / "m"):
        assert await sys_(send) == LARGE
        assert await sys_(copy_range) in (LARGE, b"EXDEV")
        await run("cp", "--reflink=auto", "-a", at(tmp_path / "m", "one"), tmp_path / "copy")
        assert await sys_(read_tree, bytes(tmp_path / "copy")) == TREE


async def test_parallel_readers_of_one_file_all_get_it(tmp_path: Path, mounted: Mounting) -> None:
    accessor = MemoryAccessor(TREE, inline=False)
    async with mounted(View.of([(path("one"), accessor)]), tmp_path / "m"):
        found: list[bytes] = []

        async def read() -> None:
            found.append(await sys_(at(tmp_path / "m", "one", "large").read_bytes))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(read)
        assert found == [LARGE] * 8


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(several=st.lists(trees(), min_size=1, max_size=5), verified=st.booleans())
async def test_any_tree_is_shown_as_it_is(
    tmp_path: Path, mounted: Mounting, several: list[Tree], verified: bool
) -> None:
    members = {
        f"p{number}": MemoryAccessor(tree, verified=verified, inline=verified) for number, tree in enumerate(several)
    }
    for accessor in members.values():
        accessor.open.set()
    async with mounted(View.of((path(name), each) for name, each in members.items()), tmp_path / "m"):
        for name, tree in zip(members, several, strict=True):
            assert await sys_(read_tree, bytes(at(tmp_path / "m", name))) == tree


@needs_root
async def test_everybody_may_read_a_mount_of_root(public: Path, mounted: Mounting) -> None:
    async with mounted(view(one=TREE), public / "m"):
        one = at(public / "m", "one")
        assert (
            await run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", f"{one}/link 3")
            == "ran 3\n"
        )


@needs_root
async def test_an_overlay_on_top_can_be_written(tmp_path: Path, mounted: Mounting) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "merged").mkdir()
    async with mounted(view(one=TREE), tmp_path / "m"):
        shown = await in_namespace(
            """
            mount -t tmpfs tmpfs "$1/upper"; mkdir "$1/upper/u" "$1/upper/w"
            mount -t overlay overlay -o "lowerdir=$1/m,upperdir=$1/upper/u,workdir=$1/upper/w" "$1/merged"
            echo new > "$1/merged/new"; cat "$1/merged/new"; ls "$1/merged" | wc -l
            cmp "$1/merged/$2/large" "$1/m/$2/large"
            """,
            tmp_path,
            path("one").base_name,
        )
        assert shown.split() == ["new", "2"]
