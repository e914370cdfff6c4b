"""Daemons whose slabs a service manager keeps: what one leaves, and what the next goes on with."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import needs_fuse
from tests.cli.test_daemon import at, create, mounts_below, wait_for
from tests.mount.kernel import is_mount, unmount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.program import Process, Program

pytestmark = [pytest.mark.mount, needs_fuse]


class Manager:
    """As much of systemd as keeps descriptors."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._said.bind(str(program.home / "notify"))
        self._said.settimeout(20)
        self.kept: list[int] = []

    def start(self, *python: str) -> Process:
        """Start a daemon, and wait until it is ready."""
        process = self.begin(*python)
        while self.hear() != "READY=1":
            assert process.poll() is None
        return process

    def begin(self, *python: str) -> Process:
        """Start a daemon with what is kept; ``python`` is how, if not by ``-m narfs``."""
        command = [sys.executable, *(python or ("-m", "narfs")), "daemon", *self._program.stores]
        environ = {"NOTIFY_SOCKET": str(self._program.home / "notify"), "INVOCATION_ID": "1"}
        script = 'exec "$@"'
        if self.kept:
            script = (
                f'exec 3<&{self.kept[0]} {self.kept[0]}<&-; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=slabs exec "$@"'
            )
        return subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            env={**self._program.environ, **environ},
            cwd=self._program.home,
            pass_fds=self.kept,
        )

    def hear(self) -> str:
        """Do what the daemon says next, and give it."""
        said, fds, _, _ = socket.recv_fds(self._said, 4096, 1)
        if said.startswith(b"FDSTOREREMOVE=1\n"):
            self.forget()
        self.kept += fds
        return said.decode()

    def forget(self) -> None:
        while self.kept:
            os.close(self.kept.pop())

    def close(self) -> None:
        self.forget()
        self._said.close()


@contextmanager
def managed(program: Program) -> Iterator[Manager]:
    manager = Manager(program)
    try:
        yield manager
    finally:
        for mount in mounts_below(program.home):
            unmount(mount)
        manager.close()


WITH_A_BUG = """if 1:
    from dataclasses import replace
    from narfs.cli import main
    from narfs.daemon import hosting

    def run_once_configured(task, announcer, run=hosting.run):
        loads = [task.load]
        run(replace(task, load=lambda: loads.pop()()), announcer)

    hosting.run = run_once_configured
    main()
"""
"""Ends with a traceback at SIGHUP."""


def end(process: Process, number: signal.Signals) -> None:
    process.send_signal(number)
    process.wait(20)


def forget_views(program: Program) -> None:
    records = program.home / "state_home/narfs/views"
    assert {record.name for record in records.iterdir()} == {"one.json", "one.shown"}
    for record in records.iterdir():
        record.unlink()


def test_what_was_mounted_and_not_yet_written_down_is_taken_off_by_the_next(program: Program, by_erofs: str) -> None:
    place = at(program, "one")
    wanted = ("one", "--path", program.library.path.path, "--at", str(place), "--frontend", by_erofs)
    with managed(program) as manager:
        process = manager.start()
        try:
            create(program, *wanted)
            assert manager.hear() + manager.hear() == "FDSTOREREMOVE=1\nFDNAME=slabsFDSTORE=1\nFDNAME=slabs"
            end(process, signal.SIGKILL)
            forget_views(program)
            process = manager.start()
            wait_for(lambda: not is_mount(place), process)
            assert create(program, *wanted)["directory"] == str(place)
            assert (program.at(place, program.library) / "motto").read_bytes() == b"be lazy\n"
            end(process, signal.SIGTERM)
            assert process.returncode == 0
            assert not is_mount(place)
        finally:
            process.kill()
            process.wait()


def test_slabs_that_nobody_can_go_on_with_are_kept_no_longer(program: Program, by_erofs: str) -> None:
    with managed(program) as manager:
        process = manager.start()
        try:
            told = create(program, "one", "--path", program.library.path.path, "--frontend", by_erofs)
            manager.hear()
            manager.hear()
            with (program.at(Path(told["directory"]), program.library) / "motto").open("rb") as held:
                end(process, signal.SIGKILL)
                for mount in mounts_below(program.home):
                    unmount(mount)
                forget_views(program)
                process = manager.start()
                assert not manager.kept, "else who reads this waits for ever"
                os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                with pytest.raises(OSError, match="Input/output error"):
                    os.pread(held.fileno(), 8, 0)
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["killed", "by a bug"])
def test_who_has_a_file_open_goes_on_under_the_next(program: Program, by_erofs: str, number: signal.Signals) -> None:
    with managed(program) as manager:
        process = manager.start("-c", WITH_A_BUG)
        try:
            directory = Path(
                create(program, "one", "--path", program.library.path.path, "--frontend", by_erofs)["directory"]
            )
            manager.hear()
            manager.hear()
            device = directory.stat().st_dev
            with (program.at(directory, program.library) / "motto").open("rb") as held:
                end(process, number)
                assert process.returncode != 0
                process = manager.start()
                assert os.pread(held.fileno(), 8, 0) == b"be lazy\n"
            assert directory.stat().st_dev == device, "it was not mounted anew"
            end(process, signal.SIGTERM)
            assert not is_mount(directory)
        finally:
            process.kill()
            process.wait()


def test_a_daemon_that_nobody_starts_again_leaves_nothing_mounted(program: Program, by_erofs: str) -> None:
    place = at(program, "one")
    with managed(program) as manager:
        process = manager.start()
        try:
            create(program, "one", "--path", program.library.path.path, "--at", str(place), "--frontend", by_erofs)
            manager.hear()
            manager.hear()
            end(process, signal.SIGKILL)
            [stage] = (mount for mount in mounts_below(program.home) if mount.name == "stage")
            unmount(stage)
            (stage / "in the way").touch()
            process = manager.begin()
            assert process.wait(20) == 2
            assert not is_mount(place)
        finally:
            process.kill()
            process.wait()
