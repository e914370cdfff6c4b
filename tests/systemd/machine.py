"""A Debian that has booted systemd, with this checkout's narfs installed in it the way docs/operations.md says."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PATIENCE_S = 30

_ENTER = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


class Machine:
    """Runs from ``__enter__`` to ``__exit__``, or until this process ends; leaves nothing behind."""

    def __init__(self, directory: Path, *, narfs: bool = True) -> None:
        self.directory = directory / "root"
        self._narfs = narfs

    def __enter__(self) -> Self:
        self._boot = subprocess.Popen(
            [HERE / "boot", _usr(), self.directory, *_interpreter()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert self._boot.stdout
            self.pid = int(self._boot.stdout.readline() or 0)
            self._wait_booted()
            if self._narfs:
                self._install()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._boot.poll() is None:
            self._boot.communicate()

    def path(self, inside: str) -> Path:
        """Give a file of the machine's, for writing and reading from outside. No link in it may be absolute."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def write(self, inside: str, text: str) -> None:
        """Write a file, with the directories it is in."""
        self.path(inside).parent.mkdir(parents=True, exist_ok=True)
        self.path(inside).write_text(text)

    def start(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command as root and wait for its end."""
        return subprocess.run(
            ["nsenter", f"--target={self.pid}", *_ENTER, "--", *command],
            env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def begin(self, *command: str | Path) -> subprocess.Popen[str]:
        """Begin a command as root; what it prints is to be asked of it."""
        return subprocess.Popen(
            ["nsenter", f"--target={self.pid}", *_ENTER, "--", *command],
            env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str | Path) -> str:
        """Run what must succeed, and give what it printed."""
        done = self.start(*command)
        assert done.returncode == 0, f"{command} gave {done.returncode}: {done.stderr}{self._journal()}"
        return done.stdout.strip()

    def property(self, unit: str, name: str) -> str:
        """Ask systemd for what it knows of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)

    def mounts(self) -> list[str]:
        """Name the places where something of narfs is mounted, as process 1 sees them."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if " - fuse.narfs " in line or " - erofs " in line]

    def _wait_booted(self) -> None:
        until = time.monotonic() + PATIENCE_S
        if not self.pid:
            _give_up(self._complaint())
        while self.start("systemctl", "is-system-running").stdout.strip() not in {"running", "degraded"}:
            if not Path(f"/proc/{self.pid}").exists() or time.monotonic() > until:
                _give_up(self._complaint())
            time.sleep(0.05)

    def _complaint(self) -> str:
        said = self._boot.communicate()[1].decode(errors="backslashreplace").strip()
        return f"no systemd can be booted here: {said or 'it did not come up'}"

    def _install(self) -> None:
        scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
        for name, entry in scripts.items():
            module, function = entry.split(":")
            program = f"from {module} import {function}; {function}()"
            # As pip writes them, but for this checkout, whichever one .venv was made for.
            self.write(
                f"/opt/narfs/bin/{name}",
                f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -P -c "{program}" "$@"\n',
            )
            self.path(f"/opt/narfs/bin/{name}").chmod(0o755)
        self.run("sh", "-euc", f"cd {REPOSITORY}; {'; '.join(documented_commands())}")

    def _journal(self) -> str:
        return "\n" + self.start("journalctl", "--no-pager", "--lines=20", "--output=cat").stdout


def documented_commands() -> Iterable[str]:
    """Give what the document tells to type for the installation; .venv stands for what pip installs."""
    text = (REPOSITORY / "docs/operations.md").read_text()
    found = re.search(r"## Under systemd\n.*?```\n(.*?)```", text, re.DOTALL)
    assert found
    return [line for line in found[1].splitlines() if re.match(r"ln |install |systemd-|systemctl daemon", line)]


def _interpreter() -> list[str]:
    """Name the directories of the machine that narfs is run from: checkout, virtual environment, its Python."""
    places = {REPOSITORY, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    inner = {place for place in places if any(other in place.parents for other in places)}
    return [str(place) for place in sorted(places - inner) if place != Path("/usr")]


def _usr() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    usr = cache / "narfs-test" / f"systemd-{platform.freedesktop_os_release().get('VERSION_CODENAME')}"
    if not usr.exists():
        _give_up(f"no systemd to boot: scripts/setup --test unpacks {usr}, on a Debian")
    return usr


def _give_up(why: str) -> NoReturn:
    give_up = pytest.fail if "CI" in os.environ else pytest.skip
    give_up(why)
