"""How a mount begins and ends."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.errors import UsageError
from narfs.mount.fuse import Stage, serve_mount
from narfs.mount.mounted import Mounted, mounted_at
from narfs.mount.mountpoint import prepare
from narfs.mount.options import MountOptions
from narfs.mount.scene import Scene
from narfs.mount.view import View
from tests.mount.kernel import (
    PATIENCE_S,
    in_namespace,
    is_mount,
    line_of,
    mounted,
    needs_fuse,
    needs_root,
    run,
    sys_,
    tool,
    unmount,
)
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.mount, needs_fuse]

TREE: Tree = {b"file": File(b"x" * 1000), b"script": File(b"#!/bin/sh\nid -u\n", executable=True)}


def kill_daemon_at(place: Path) -> None:
    """Leave at ``place`` what a killed daemon leaves: a FUSE mount without anybody behind it."""
    place.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"narfs", bytes(place), b"fuse.narfs", 0, options.encode()) == 0, os.strerror(ctypes.get_errno())
    os.close(device)


async def errno_of_stat(place: Path) -> int | None:
    try:
        await sys_(os.stat, place)
    except OSError as error:
        return error.errno
    return None


async def test_cancelling_unmounts_and_answers_the_readers_in_flight(tmp_path: Path) -> None:
    accessor = MemoryAccessor(TREE)
    told: list[int | None] = []

    async def read(fd: int) -> None:
        try:
            await sys_(os.pread, fd, 1000, 0)
        except OSError as error:
            told.append(error.errno)

    async with trio.open_nursery() as nursery:
        async with mounted(View.of([(path("one"), accessor)]), tmp_path / "m") as handlers:
            accessor.stall()
            fds = [await sys_(os.open, tmp_path / "m" / path("one").base_name / "file", os.O_RDONLY) for _ in range(2)]
            for fd in fds:
                nursery.start_soon(read, fd)
            while not handlers.statistics().waiting:
                await trio.lowlevel.checkpoint()
        assert not is_mount(tmp_path / "m")
    for fd in fds:
        with suppress(OSError):  # the flush has nobody to go to; the descriptor is gone all the same
            await sys_(os.close, fd)
    assert set(told) == {errno.ENOTCONN}


CHILD = """if 1:
    import os, signal, sys, trio
    from pathlib import Path
    from narfs.mount.fuse import Stage, serve_mount
    from narfs.mount.scene import Scene
    from narfs.mount.view import View
    from tests.mount.model import MemoryAccessor, path
    from tests.support.trees import File

    class Telling(MemoryAccessor):
        async def read(self, start, length):
            print("reading", flush=True)
            return await super().read(start, length)

    async def end(scope):
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async def main():
        accessor = Telling({b"file": File(b"x" * 1000), b"script": File(b"#!/bin/sh\\nid -u\\n", executable=True)})
        if "stall" in sys.argv:
            accessor.stall()
        stage = Stage(Scene(View.of([(path("one"), accessor)])), owner=(os.geteuid(), os.getegid()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, nursery.cancel_scope)
            await serve_mount(stage, Path(sys.argv[1]), on_ready=lambda _: print("ready", flush=True))
            nursery.cancel_scope.cancel()
        print("ended", flush=True)

    trio.run(main)
"""


async def test_sigterm_unmounts_even_with_a_read_in_flight(tmp_path: Path) -> None:
    place = tmp_path / "m"
    place.mkdir()
    command = [sys.executable, "-c", CHILD, str(place), "stall"]
    with trio.fail_after(PATIENCE_S):
        daemon = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        try:
            assert daemon.stdout is not None
            assert await line_of(daemon.stdout) == "ready"
            reader = await trio.lowlevel.open_process(["cat", str(place / path("one").base_name / "file")], stderr=-1)
            assert await line_of(daemon.stdout) == "reading"
            daemon.send_signal(signal.SIGTERM)
            assert await line_of(daemon.stdout) == "ended"
            assert await daemon.wait() == 0
            assert await reader.wait() == 1
            assert reader.stderr is not None
            assert b"endpoint is not connected" in await reader.stderr.receive_some()
            await reader.stderr.aclose()
            await daemon.stdout.aclose()
            assert not is_mount(place)
        finally:
            daemon.kill()
            unmount(place)


@needs_root
async def test_an_unprivileged_user_mounts_through_fusermount3_what_belongs_to_him(public: Path) -> None:
    tool("fusermount3")
    place = public / "m"
    place.mkdir()
    os.chown(place, 65534, 65534)
    # The device is opened to everybody, in this namespace only. The capability lets nobody read a Python that may lie
    # in root's home; it has nothing to do with mounting.
    script = """
        mknod -m 666 "$1/fuse" c 10 229; mount --bind "$1/fuse" /dev/fuse
        exec setpriv --reuid=65534 --regid=65534 --clear-groups \\
            --inh-caps=+dac_read_search --ambient-caps=+dac_read_search sh -euc '
            "$3" -c "$4" "$2" > "$5" &
            until grep -q ready "$5"; do kill -0 $!; done
            stat -c "%u %g %a" "$2" "$2/$6/file"; "$2/$6/script"; wc -c < "$2/$6/file"; findmnt -no OPTIONS "$2"
            kill $!; wait $!; cat "$5"; mountpoint -q "$2" || echo unmounted
        ' sh "$@"
    """
    log = public / "log"
    log.touch()
    os.chown(log, 65534, 65534)
    told = await in_namespace(script, public, place, sys.executable, CHILD, log, path("one").base_name)
    first, second, uid, size, options, *end = told.splitlines()
    assert (first, second, uid, size) == ("65534 65534 555", "65534 65534 444", "65534", "1000")
    assert {"ro", "nosuid", "nodev", "user_id=65534"} <= set(options.split(","))
    assert "allow_other" not in options
    assert end == ["ready", "ended", "unmounted"]


async def test_unmounting_from_outside_ends_the_daemon(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    ready = trio.Event()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            stage = Stage(Scene(View.of([(path("one"), MemoryAccessor(TREE))])))
            nursery.start_soon(partial(serve_mount, stage, tmp_path / "m", on_ready=lambda _: ready.set()))
            await ready.wait()
            await run("fusermount3", "-u", tmp_path / "m")


@needs_root
async def test_a_dead_mount_in_the_way_is_cleared(tmp_path: Path) -> None:
    await sys_(kill_daemon_at, tmp_path / "m")
    assert await errno_of_stat(tmp_path / "m") == errno.ENOTCONN
    async with mounted(View.of([(path("one"), MemoryAccessor(TREE))]), tmp_path / "m"):
        assert await sys_(os.listdir, tmp_path / "m") == [path("one").base_name]
    assert await sys_(os.listdir, tmp_path / "m") == []


async def test_a_mountpoint_must_be_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="no such directory"):
        await prepare(tmp_path / "none")
    with pytest.raises(UsageError, match="not a directory"):
        await prepare(tmp_path / "file")
    with pytest.raises(UsageError, match="not empty"):
        await prepare(tmp_path)
    assert await prepare(tmp_path, nonempty=True) == tmp_path


async def test_a_second_mount_at_the_same_place_is_refused(tmp_path: Path) -> None:
    async with mounted(View.of([]), tmp_path / "m"):
        with pytest.raises(UsageError, match="mounted there already"):
            await serve_mount(Stage(Scene(View.of([]))), tmp_path / "m")


async def test_mounts_follow_each_other_in_one_process(tmp_path: Path) -> None:
    for _ in range(3):
        async with mounted(View.of([(path("one"), MemoryAccessor(TREE))]), tmp_path / "m"):
            assert len(await sys_(os.listdir, tmp_path / "m")) == 1
        assert not is_mount(tmp_path / "m")


async def test_words_of_options_reach_the_kernel(tmp_path: Path) -> None:
    options = MountOptions(extra=frozenset({"noatime"}))
    async with mounted(View.of([]), tmp_path / "m", options=options):
        found = await run("findmnt", "-no", "SOURCE,FSTYPE,OPTIONS", tmp_path / "m")
    source, kind, words = found.split()
    assert (source, kind) == ("narfs", "fuse.narfs")
    assert {"ro", "nosuid", "nodev", "noatime", "default_permissions"} <= set(words.split(","))


def test_mountinfo_tells_the_topmost_mount_of_a_place() -> None:
    text = (
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda rw\n"
        "30 22 0:40 / /mnt/a\\040b rw - fuse.narfs narfs ro\n"
        "31 30 0:41 / /mnt/a\\040b rw shared:7 - tmpfs tmpfs rw\n"
    )
    assert mounted_at(text, "/") == Mounted("ext4", "/dev/sda", device="8:1")
    assert mounted_at(text, "/mnt/a b") == Mounted("tmpfs", "tmpfs", device="0:41")
    assert mounted_at(text, "/mnt") is None


def test_mountinfo_tells_which_view_of_a_daemon_is_at_a_place() -> None:
    text = (
        "30 22 0:40 /one /at/one ro - fuse.narfs narfs-daemon ro\n"
        "31 22 0:40 / /at/stage ro - fuse.narfs narfs-daemon ro\n"
        "32 22 0:40 /one/path /at/path ro - fuse.narfs narfs-daemon ro\n"
        "33 22 0:41 /one /at/bound ro - fuse.narfs narfs ro\n"
        "34 22 0:42 / /at/two ro - erofs /var/lib/narfs/images/narfs-7-40-0-two.erofs ro\n"
        "35 22 0:43 / /at/alone ro - erofs /var/lib/narfs/images/narfs-8-40-0.erofs ro\n"
    )
    found = {place: mounted_at(text, f"/at/{place}") for place in ("one", "stage", "path", "bound", "two", "alone")}
    assert {place: mounted and mounted.view for place, mounted in found.items()} == {
        "one": "one",
        "stage": None,
        "path": None,
        "bound": None,
        "two": "two",
        "alone": None,
    }
