"""The ``narfs`` program as a person starts it: a process, with directories of its own and a small lake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from narfs.mount.mounted import mounted_at
from tests.support import daemons
from tests.support.lakes import Lake, Member, Recipe
from tests.support.trees import File, Symlink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.trees import Tree

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120

needs_fuse = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened")


Process = subprocess.Popen[bytes]


def finish(process: Process, given: bytes = b"") -> tuple[int, bytes, str]:
    """Wait for a process; give its exit code, output and what it said on standard error."""
    with process:
        try:
            out, said = process.communicate(given, timeout=PATIENCE_S)
        finally:
            process.kill()
        return process.returncode, out, said.decode()


class Program:
    """``narfs`` with XDG directories below ``home``, which is short because a socket's path may have 107 characters."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "error",
            "NIX_CONF_DIR": str(home / "no-nix"),
            **{f"XDG_{name}": str(home / name.lower()) for name in ("CACHE_HOME", "STATE_HOME", "RUNTIME_DIR")},
        }
        self.lake = Lake(home / "lake")
        library: Tree = {b"lib": {b"data": File(b"d" * 3000)}, b"motto": File(b"be lazy\n")}
        self.library = self.lake.add("library", library)
        script = b"#!/bin/sh\ncat " + self.library.path.path.encode() + b'/motto\necho "args: $*"\n'
        tree: Tree = {
            b"bin": {b"tool": File(script, executable=True), b"alias": Symlink(b"tool")},
            b"etc": {b"motto": Symlink(self.library.path.path.encode() + b"/motto")},
            b"odd \x1b[31m\xff": File(b""),
        }
        self.tool = self.lake.add("tool", tree, Recipe("xz"), references=[self.library.path])
        self.stores = ["--store", self.lake.url, "--trusted-public-keys", self.lake.trusted_public_keys]
        self.index_keys = ["--trusted-index-keys", self.lake.trusted_public_keys]

    def start(self, *arguments: str, environ: Mapping[str, str] = MappingProxyType({})) -> Process:
        return self._start("-m", "narfs", *arguments, environ=environ)

    def run(self, *arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
        """Give exit code, output and what was said on standard error."""
        return finish(self.start(*arguments), given)

    def run_python(self, code: str, environ: Mapping[str, str] = MappingProxyType({})) -> tuple[int, bytes, str]:
        """Run ``code`` where the program would run."""
        return finish(self._start("-c", code, environ=environ))

    def _start(self, *python: str, environ: Mapping[str, str]) -> Process:
        return subprocess.Popen(
            [sys.executable, *python],
            env={**self.environ, **environ},
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def output(self, *arguments: str, given: bytes = b"") -> bytes:
        """Run what must succeed silently, and give its output."""
        code, out, said = self.run(*arguments, given=given)
        assert (code, said) == (0, ""), said
        return out

    @property
    def runtime(self) -> Path:
        """Where the sockets are."""
        return self.home / "runtime_dir/narfs"

    def ask(self, operation: str, **arguments: object) -> Any:
        """Ask the daemon without a command."""
        return daemons.ask(self.runtime, operation, **arguments)

    @contextmanager
    def mounted(self, *arguments: str, given: bytes = b"", warned: str = "") -> Iterator[Path]:
        """Mount in the background, and unmount whatever became of it."""
        place = self.home / "mnt"
        with suppress(FileExistsError):  # exist_ok would look at what is there, which may be a mount that is dead
            place.mkdir()
        code, out, said = self.run("mount", *self.stores, *arguments, str(place), given=given)
        assert (code, out, said.count("\n")) == (0, b"", 1 if warned else 0), said
        assert warned in said
        try:
            yield place
        finally:
            if os.path.ismount(place):
                self.output("umount", str(place))

    def at(self, place: Path, member: Member) -> Path:
        return place / member.path.base_name


@contextmanager
def make_program() -> Iterator[Program]:
    home = Path(tempfile.mkdtemp(prefix="narfs-cli-"))
    try:
        yield Program(home)
    finally:
        shutil.rmtree(home)


def kind_of(place: Path) -> str:
    found = mounted_at(Path("/proc/self/mountinfo").read_text(encoding="latin-1"), str(place))
    return "" if found is None else found.kind
