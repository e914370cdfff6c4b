"""A process that tries what a worker may not: ``python -m tests.engine.confined DIRECTORY [free]``.

It prints what came of each try as JSON: an errno, or that it was done. ``free``: without confinement.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from narfs.privileges import keep_only
from narfs.seccomp import confine

if TYPE_CHECKING:
    from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)


def _calls(name: str, *arguments: object) -> Callable[[], object]:
    def call() -> None:
        if getattr(_libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)

    return call


def _fork() -> None:
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def tries(directory: Path) -> dict[str, Callable[[], object]]:
    """Give what is tried; ``directory`` has a file ``there``."""
    there, new = directory / "there", directory / "new"
    peer = socket.socketpair()[0].detach()
    return {
        "read a file": there.read_bytes,
        "write a file": lambda: there.write_bytes(b"x"),
        "make a file": new.touch,
        "look at a file": there.stat,
        "list a directory": lambda: [*directory.iterdir()],
        "make a directory": (directory / "d").mkdir,
        "rename": lambda: there.rename(directory / "other"),
        "link": lambda: (directory / "link").symlink_to(there),
        "remove": (directory / "other").unlink,
        "change a mode": lambda: directory.chmod(0o777),
        "connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "fork": _fork,
        "start a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "kill": lambda: os.kill(os.getppid(), 0),
        "trace": _calls("ptrace", 16, os.getppid(), 0, 0),
        "read another's memory": _calls("process_vm_readv", os.getppid(), 0, 0, 0, 0, 0),
        "mount": _calls("mount", b"none", os.fsencode(directory), b"tmpfs", 0, None),
        "a namespace": _calls("unshare", 0x10000000),
        "executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "a copy of a descriptor": lambda: os.dup(peer),
        "memory to be shared": lambda: os.memfd_create("m"),
        "prctl": _calls("prctl", 4, 1, 0, 0, 0),
    }


def main(directory: str, *free: str) -> None:
    tried = tries(Path(directory))
    keep_only()
    if not free:
        assert confine() is None
    told = {}
    for name, work in tried.items():
        try:
            work()
        except OSError as error:
            told[name] = errno.errorcode[error.errno or 0]
        else:
            told[name] = "done"
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(len(bytearray(50_000_000))))
    thread.start()
    thread.join()
    told["a thread and memory"] = "done" if done else "none"
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
