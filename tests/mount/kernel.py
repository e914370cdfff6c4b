"""A real mount inside the test's own event loop. System calls on it go through threads, programs through processes.

Never touch the mount from the loop's thread, nor with the GIL held (a page fault of mmap, a fork that execs from the
mount): the answer would have to come from the very thread that waits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import pytest
import trio

from narfs.mount.fuse import Handlers, Stage, serve_mount
from narfs.mount.scene import Scene
from tests.support.trees import File, Symlink, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from narfs.mount.options import MountOptions
    from narfs.mount.scene import Watcher
    from narfs.mount.view import View
    from tests.mount.model import MemorySource

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE_S = 60
"""Bounds one test: a mount that hangs is unmounted, which frees whoever waits for it."""

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mount namespaces and overlayfs")


@asynccontextmanager
async def mounted(
    view: View,
    place: Path,
    *,
    source: MemorySource | None = None,
    options: MountOptions | None = None,
    read_deadline_s: float = 120,
    root_deadline_s: float = 5,
    watcher: Watcher | None = None,
) -> AsyncIterator[Handlers]:
    """Serve a View at ``place``, made if need be; afterwards nothing is mounted there, whatever happened."""
    with suppress(FileExistsError):
        place.mkdir()  # noqa: ASYNC240 - nothing is mounted yet
    ready = trio.Event()
    found: list[Handlers] = []

    def on_ready(handlers: Handlers) -> None:
        found.append(handlers)
        ready.set()

    scene = Scene(view, source, read_deadline_s=read_deadline_s, root_deadline_s=root_deadline_s, watcher=watcher)
    serve = partial(serve_mount, Stage(scene), place, options=options, on_ready=on_ready)
    try:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                await ready.wait()
                yield found[0]
                nursery.cancel_scope.cancel()
    finally:
        unmount(place)


def unmount(place: Path) -> None:
    """Take off whatever is still mounted at a place of the test."""
    if is_mount(place):
        command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
        subprocess.run([*command, place], check=False, timeout=10)


@contextmanager
def cut_off_in_time(place: Path) -> Iterator[None]:
    """Fail all that is asked of the mount if the block takes too long, also the loop that would have to answer."""
    timer = threading.Timer(PATIENCE_S, subprocess.run, (["umount", "-f", place],))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


async def sys_(call: Callable[[*Ts], T], *args: *Ts) -> T:
    """Make a system call in a thread."""
    return await trio.to_thread.run_sync(call, *args, abandon_on_cancel=True)


async def run(*command: str | Path, check: bool = True, text: str = "") -> str:
    """Run a program and give its output; a failure shows its errors."""
    done = await trio.run_process(
        [str(word) for word in command], stdin=text.encode(), capture_stdout=True, capture_stderr=True, check=False
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def line_of(stream: trio.abc.ReceiveStream) -> str:
    """Read one line, byte by byte so that nothing behind it is lost."""
    line = b""
    while not line.endswith(b"\n") and (byte := await stream.receive_some(1)):
        line += byte
    return line.decode().rstrip("\n")


async def python(script: str, *args: str | Path) -> str:
    """Run Python code in a process of its own."""
    return await run(sys.executable, "-c", script, *args)


async def in_namespace(script: str, *args: str | Path) -> str:
    """Run a shell script as root of a mount namespace of its own; ``$1`` is the first argument."""
    return await run("unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", *args)


def read_tree(place: bytes) -> Tree:
    """Read what is there into a model tree."""
    there = Path(os.fsdecode(place))
    if there.is_symlink():
        return Symlink(os.readlink(place))  # noqa: PTH115 - pathlib drops the slash at the end of a target
    if there.is_dir():
        return {os.fsencode(each.name): read_tree(bytes(each)) for each in there.iterdir()}
    return File(there.read_bytes(), executable=bool(there.stat().st_mode & 0o100))


def is_mount(place: Path) -> bool:
    """Look without asking whoever serves it."""
    return f" {place} " in Path("/proc/self/mountinfo").read_text(encoding="latin-1")


def tool(name: str) -> str:
    """Find a program the test needs, or skip naming it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
