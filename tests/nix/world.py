"""A machine for real Nix: this one's file tree with a /nix of its own, in a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.nix.newer import link_programs
from tests.support.daemons import managing

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent

NIX_CONFIG = """\
build-users-group =
sandbox = false
substituters =
experimental-features = nix-command
"""
"""No sandbox: it would need a /bin/sh in the store; the namespace around it is sandbox enough."""


FRONTENDS = ("tree", "erofs")
SHOWN_BY = (*FRONTENDS, "daemon tree", "daemon erofs")
"""``narfs mount`` with this frontend, or a view of ``narfs daemon``, whose name is VIEW."""
VIEW = "shown"


class World:
    """Commands run inside until it is closed. ``directory`` holds its /nix and all else that it leaves behind.

    With ``newer`` its Nix is not the machine's own (tests/nix/newer.py).
    """

    narfs = str(Path(sys.executable).with_name("narfs"))

    def __init__(self, directory: Path, *, newer: bool = False) -> None:
        self.directory = directory
        self.is_newer = newer
        (directory / "nix").mkdir(parents=True)
        (directory / "home").mkdir()
        (directory / "tmp").mkdir()
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        if newer:
            link_programs(directory / "programs")
            path = f"{directory}/programs:{path}"
        self.environment = {
            "HOME": str(directory / "home"),
            "TMPDIR": str(directory / "tmp"),  # a build that is killed leaves its directory
            "LC_ALL": "C.UTF-8",
            "NIX_CONFIG": NIX_CONFIG,
            "PATH": path,
            "PYTHONPATH": str(HERE.parents[1]),
        }
        # A shell that waits for the end of its input holds the namespace open.
        self._holder = subprocess.Popen(
            [HERE / "private_root", directory / "nix", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"ready\n", "the private root could not be made"
        self.enter = ("nsenter", f"--target={self._holder.pid}", "--mount", "--root", "--wd", "--")
        """What to put before a command for it to run inside."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    def run(self, *command: str | Path, timeout_s: float = 120) -> str:
        """Run a command inside, as root, and give what it printed; its complaints are in the error if it fails."""
        done = subprocess.run(
            [*self.enter, *command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        complaints = done.stderr.decode(errors="backslashreplace")
        assert done.returncode == 0, f"{command} gave {done.returncode}: {complaints}"
        return done.stdout.decode(errors="backslashreplace")

    def shell(self, script: str) -> str:
        """Run a few lines of bash inside."""
        return self.run("bash", "-euo", "pipefail", "-c", script)

    def build(self, attribute: str) -> str:
        """Let Nix build something of closure.nix, and give its store path."""
        return self.run("nix-build", HERE / "closure.nix", "-A", attribute, "--no-out-link").strip()

    @contextmanager
    def mounted(self, lake: str, key: str, *options: str, by: str = "tree") -> Iterator[Path]:
        """Show a lake inside with a fresh cache; ``by`` is one of SHOWN_BY."""
        mountpoint = self.directory / "mnt"
        cache = self.directory / "cache"
        mountpoint.mkdir(exist_ok=True)
        store = ("--store", lake, "--trusted-public-keys", key, "--cache-dir", str(cache))
        frontend = ("--frontend", by.removeprefix("daemon "))
        try:
            if by in FRONTENDS:
                self.run(self.narfs, "mount", *store, *frontend, *options, mountpoint)
                yield mountpoint
                self.run(self.narfs, "umount", mountpoint)
            else:
                with self._daemon(*store):
                    view = (self.narfs, "view", "create", VIEW, "--at", mountpoint)
                    self.run(*view, *frontend, *options)
                    yield mountpoint
                    self.run(self.narfs, "view", "remove", VIEW)
        finally:
            self.run("rm", "-rf", cache)

    @property
    def runtime(self) -> Path:
        """Where the sockets of a daemon inside are, as seen from here."""
        return Path(f"/proc/{self._holder.pid}/root/run/narfs")

    @contextmanager
    def _daemon(self, *options: str) -> Iterator[None]:
        state = {"XDG_STATE_HOME": str(self.directory / "state")}
        command = [*self.enter, self.narfs, "daemon", *options]
        with managing() as manager, (self.directory / "daemon.log").open("wb") as log:
            environment = self.environment | state | manager.environ
            with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=log) as daemon:
                try:
                    manager.wait_ready(daemon)
                    yield
                finally:
                    daemon.terminate()
                    assert daemon.wait(60) == 0, Path(log.name).read_text()
