"""What is fetched before anybody asks: by a real program of this machine that starts, and by ``narfs prefetch``."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.program import needs_fuse
from tests.cli.test_daemon import daemon
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
    assert counters["ahead_used_bytes"] > 0  # how much of it, follows from who was faster
    assert counters["ahead_fetched_bytes"] > without["ahead_fetched_bytes"]
    assert counters["corrupt"] == 0


NOISE = random.Random(9).randbytes(3_000_000)  # noqa: S311 - any noise will do


@pytest.fixture
def pair(program: Program) -> tuple[Member, Member]:
    """Two sealed paths; the second refers to the first."""
    key = program.lake.secret_key
    one = add_sealed(program.lake, "one", {b"a": File(NOISE)}, key)
    return one, add_sealed(program.lake, "two", {b"b": File(NOISE[::-1])}, key, references=(one.path,))


def prefetch(program: Program, *arguments: str, code: int = 0) -> dict[str, Any]:
    got, out, said = program.run("prefetch", "--json", *program.stores, *program.index_keys, *arguments)
    assert got == code, said
    told: dict[str, Any] = json.loads(out)
    return told


def test_without_a_process_the_command_fills_the_cache_itself(program: Program, pair: tuple[Member, Member]) -> None:
    one, two = pair
    told = prefetch(program, "--closure", two.path.path)
    assert (told["paths"], told["done"], told["stopped_by"]) == (2, True, None)
    assert told["fetched_bytes"] > 5_900_000
    again = prefetch(program, one.path.path)
    assert (again["paths"], again["fetched_bytes"], again["wanted_bytes"]) == (1, 0, 0)
    for member in pair:
        program.lake.blob_file(member).unlink()
    with program.mounted("--closure", two.path.path, *program.index_keys) as place:
        assert (program.at(place, one) / "a").read_bytes() == NOISE


def test_a_mount_brings_what_it_shows_and_nothing_else(program: Program, pair: tuple[Member, Member]) -> None:
    one, two = pair
    with program.mounted("--path", one.path.path, *program.index_keys) as place:
        code, _, said = program.run("prefetch", two.path.path)
        assert (code, two.path.base_name in said, "does not show" in said) == (1, True, True)
        begun = prefetch(program, one.path.path)
        assert begun["paths"] == 1
        assert prefetch(program, "--wait", one.path.path)["done"]
        program.lake.blob_file(one).unlink()
        assert (program.at(place, one) / "a").read_bytes() == NOISE


def test_it_stops_at_its_budget_and_where_the_cache_has_no_room(program: Program, pair: tuple[Member, Member]) -> None:
    one, two = pair
    told = prefetch(program, "--prefetch-bytes", "1M", one.path.path, code=1)
    assert told["stopped_by"] == "allowance"
    assert told["fetched_bytes"] < 3_000_000
    told = prefetch(program, "--cache-size", "4M", "--closure", two.path.path, code=1)
    assert told["stopped_by"] == "cache"


def test_it_says_why_something_could_not_be_had(program: Program, pair: tuple[Member, Member]) -> None:
    one, two = pair
    program.lake.blob_file(one).unlink()
    options = (*program.stores, *program.index_keys, "--closure", two.path.path)
    code, _, said = program.run("prefetch", *options)
    assert (code, "not everything is here: " in said, "but not its NAR" in said) == (1, True, True)


def test_what_makes_no_sense_is_refused(program: Program, pair: tuple[Member, Member]) -> None:
    one, _ = pair
    for arguments in ([], ["--view", "none", one.path.path], ["--prefetch-bytes", "0", one.path.path]):
        assert program.run("prefetch", *program.stores, *arguments)[0] == 2
    absent = "/nix/store/" + "0" * 32 + "-absent"
    assert program.run("prefetch", *program.stores, absent)[0] == 1


def test_a_view_of_the_daemon_pays_for_what_is_brought_into_it(program: Program, pair: tuple[Member, Member]) -> None:
    _, two = pair
    options = [*program.stores, *program.index_keys]
    with daemon(program, *options):
        program.output("view", "create", "v", "--closure", two.path.path, "--frontend", "tree")
        told = prefetch(program, "--view", "v", "--wait")
        assert (told["paths"], told["stopped_by"]) == (2, None)
        (facts,) = json.loads(program.output("view", "list", "--json"))
        assert facts["fetched_bytes"] > 5_900_000
        assert program.run("prefetch", *options, "--view", "absent")[0] == 1
        assert prefetch(program, "--wait", two.path.path)["done"]
        program.output("view", "remove", "v")


def test_what_one_view_may_fetch_bounds_nothing_that_is_for_none(program: Program, pair: tuple[Member, Member]) -> None:
    one, two = pair
    with daemon(program, *program.stores, *program.index_keys, "--fetch-bytes", "1M"):
        assert prefetch(program, "--wait", one.path.path)["stopped_by"] is None
        (pin,) = json.loads(program.output("cache", "pin", "--json", two.path.path))
        assert pin["complete"], pin["trouble"]
