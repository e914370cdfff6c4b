"""Real programs of this machine, started from a mount: what they will need is on its way before they ask."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.program import needs_fuse
from tests.support.sealing import add_sealed
from tests.support.trees import File

if TYPE_CHECKING:
    from tests.cli.program import Program
    from tests.support.lakes import Member
    from tests.support.trees import Tree

pytestmark = [pytest.mark.mount, needs_fuse]


@pytest.fixture
def closure(program: Program) -> tuple[Member, Member]:
    """A real program, and its real loader and libraries, in two store paths."""
    real = shutil.which("ls")
    if real is None or shutil.which("ldd") is None:
        pytest.skip("ls and ldd are not installed (packages coreutils, libc-bin)")
    told = subprocess.run(("ldd", real), capture_output=True, text=True, check=True).stdout
    files = [Path(path) for path in re.findall(r"(/\S+) \(0x", told)]
    libraries: Tree = {file.name.encode(): File(file.read_bytes(), executable=True) for file in files}
    key = program.lake.secret_key
    lib = add_sealed(program.lake, "lib", {b"lib": libraries}, key)
    tree: Tree = {b"bin": {b"ls": File(Path(real).read_bytes(), executable=True)}}
    return lib, add_sealed(program.lake, "ls", tree, key, references=(lib.path,))


def run_ls(program: Program, closure: tuple[Member, Member], *options: str) -> dict[str, Any]:
    """Run it from a fresh mount; gives the counters of the engine."""
    lib, ls = closure
    shutil.rmtree(program.home / "cache_home", ignore_errors=True)
    with program.mounted("--closure", ls.path.path, *program.index_keys, "--no-profile", *options) as place:
        folder = program.at(place, lib) / "lib"
        loader = next(folder.glob("ld-*"))
        command = (loader, "--library-path", folder, program.at(place, ls) / "bin/ls", "-Z", "/")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "etc" in done.stdout
        told = json.loads(program.output("status", "--json", str(place)))
    counters: dict[str, Any] = told[0]["engine"]["counters"]
    return counters


def test_a_program_that_starts_finds_its_libraries_on_their_way(
    program: Program, closure: tuple[Member, Member]
) -> None:
    without = run_ls(program, closure, "--prefetch-bytes", "0")
    counters = run_ls(program, closure)
    assert counters["ahead_used_bytes"] > without["ahead_used_bytes"]
    assert counters["ahead_fetched_bytes"] > without["ahead_fetched_bytes"]
    assert counters["corrupt"] == 0
