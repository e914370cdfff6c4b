"""A worker computes, and reads and writes what it was given: nothing else, whatever it was talked into."""

from __future__ import annotations

import json
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs import seccomp
from tests.engine.conftest import read_tree
from tests.engine.test_workers import workers
from tests.support.lakes import Recipe
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from tests.engine.conftest import House

needs_known_machine = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"}, reason="needs a machine whose system calls narfs knows"
)
REPOSITORY = Path(__file__).parents[2]
MAY_STILL = {"a thread and memory"}
FILES: Tree = {b"a": File(b"a" * 3000)}


def outcome(directory: Path, *free: str) -> dict[str, str]:
    directory.mkdir()
    (directory / "there").touch()
    command = [sys.executable, "-m", "tests.engine.confined", str(directory), *free]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    told: dict[str, str] = json.loads(ran.stdout)
    return told


@needs_known_machine
def test_all_else_is_refused(tmp_path: Path) -> None:
    told = outcome(tmp_path / "confined")
    assert {name for name, result in told.items() if result == "done"} == MAY_STILL
    assert set(told.values()) == {"EPERM", "done"}
    free = outcome(tmp_path / "free", "free")
    assert sum(result == "done" for result in free.values()) >= 18, "or this shows nothing"


def seccomp_modes(pid: int) -> set[int]:
    """Say what binds its threads; 2 is a program."""
    statuses = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return {int(status.partition("\nSeccomp:")[2].split()[0]) for status in statuses}


def files_of(pid: int, directory: Path) -> list[Path]:
    """Give what it has open below a directory."""
    return [file for each in Path(f"/proc/{pid}/fd").iterdir() if (file := each.readlink()).is_relative_to(directory)]


@needs_known_machine
async def test_workers_are_confined(house: House) -> None:
    member = house.lake.add("tree", FILES, Recipe("zstd"))
    async with house.open() as store:
        assert await read_tree(await store.find(member.path)) == FILES
        for pid in workers(store):
            assert seccomp_modes(pid) == {2}
            assert files_of(pid, house.cache_directory) == []


async def test_a_worker_that_may_have_no_more_files_takes_none_for_another(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("one", "two", "three")
    one, two, three = (house.lake.add(name, {b"n": File(name.encode() * 999)}, Recipe("none")) for name in names)
    async with house.open() as store:
        store.warm_up()
        (pid,) = workers(store)
        assert await read_tree(await store.find(one.path)) == one.tree
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        assert await read_tree(await store.find(two.path)) == two.tree
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for member in (three, two, one):
            assert await read_tree(await store.find(member.path)) == member.tree
    assert "a worker process may have no more open files" in caplog.text


@pytest.mark.parametrize(
    ("machine", "header", "prefix"),
    [
        ("x86_64", "x86_64-linux-gnu/asm/unistd_64.h", "__NR_"),
        ("aarch64", "asm-generic/unistd.h", "__NR_(?:3264_|)|__NR3264_"),
    ],
)
def test_calls_have_the_numbers_of_the_kernel_s_headers(machine: str, header: str, prefix: str) -> None:
    path = Path("/usr/include", header)
    if not path.exists():
        pytest.skip(f"needs {path} (linux-libc-dev)")
    numbers = {name: int(number) for name, number in re.findall(rf"#define (?:{prefix})(\w+) (\d+)", path.read_text())}
    column = seccomp._MACHINES[machine].column
    named = seccomp._LET_THROUGH | seccomp._UNLESS_EXECUTABLE | {"clone": seccomp._CLONE}
    assert {name: calls[column] for name, calls in named.items()} == {name: numbers[name] for name in named}
    assert numbers["clone3"] == seccomp._CLONE3


def test_a_machine_whose_calls_are_not_known_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert seccomp.confine() == "narfs does not know the system calls of riscv64 with 64 bits"
