"""A machine for real Nix: this one's file tree with a /nix of its own, in a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.nix.newer import link_programs

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


class World:
    """Commands run inside until it is closed. ``directory`` holds its /nix and all else that it leaves behind.

    With ``newer`` its Nix is not the machine's own (tests/nix/newer.py).
    """

    narfs = str(Path(sys.executable).with_name("narfs"))

    def __init__(self, directory: Path, *, newer: bool = False) -> None:
        self.directory = directory
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
    def mounted(self, lake: str, key: str, *options: str) -> Iterator[Path]:
        """Mount a lake inside with a fresh cache."""
        mountpoint = self.directory / "mnt"
        cache = self.directory / "cache"
        mountpoint.mkdir(exist_ok=True)
        store = ("--store", lake, "--trusted-public-keys", key, "--cache-dir", cache)
        self.run(self.narfs, "mount", *store, *options, mountpoint)
        try:
            yield mountpoint
        finally:
            self.run(self.narfs, "umount", mountpoint)
            self.run("rm", "-rf", cache)
