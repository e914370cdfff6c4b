from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import needs_fuse

if TYPE_CHECKING:
    from tests.cli.program import Program

pytestmark = [pytest.mark.mount, needs_fuse]


def test_run_starts_a_program_of_the_lake_on_a_machine_without_it(program: Program) -> None:
    expected = b"be lazy\nargs: one two\n"
    for closure in ([], ["--closure"]):
        out = program.output("run", *program.stores, *closure, program.tool.path.path, "--", "tool", "one", "two")
        assert out == expected
    assert not Path("/nix/store", program.tool.path.base_name).exists()


def test_a_path_may_be_the_program_itself(program: Program) -> None:
    assert program.output("run", *program.stores, f"{program.tool.path.path}/bin/alias") == b"be lazy\nargs: \n"


def test_with_closure_nothing_else_is_there(program: Program) -> None:
    other = program.library.path.path
    seen = program.run("run", *program.stores, "--closure", other, "--", "ls", "/nix/store")
    assert seen == (0, program.library.path.base_name.encode() + b"\n", "")
    code, _, _ = program.run("run", *program.stores, "--closure", other, "--", "ls", program.tool.path.path)
    assert code == 2, "as ls says it"


def test_exit_codes_and_failures_are_told_once(program: Program) -> None:
    assert program.run("run", *program.stores, program.tool.path.path, "--", "sh", "-c", "exit 9")[0] == 9
    code, _, said = program.run("run", *program.stores, program.tool.path.path, "--", "no-such-thing")
    assert code == 127
    assert "no-such-thing" in said
    program.lake.narinfo_file(program.library.path).unlink()
    code, _, said = program.run("run", *program.stores, "--closure", program.tool.path.path, "--", "true")
    assert code == 1
    assert said.count(program.library.path.base_name) == 1


def test_run_works_beside_a_mount_that_has_the_cache(program: Program) -> None:
    with program.mounted():
        assert program.output("run", *program.stores, program.tool.path.path, "--", "tool") == b"be lazy\nargs: \n"


def test_a_report_tells_what_a_program_read(program: Program) -> None:
    files = program.home / "report.json", program.home / "report.html"
    both = (word for file in files for word in ("--report", str(file)))
    arguments = ("run", *program.stores, "--closure", *both, program.tool.path.path, "--", "sh", "-c")
    motto = f"{program.library.path.path}/motto"
    assert program.run(*arguments, f"cat {motto}; exit 3") == (3, b"be lazy\n", "")
    told = json.loads(files[0].read_text())
    assert (told["read_paths"], told["unread_paths"], told["distinct_bytes"]) == (1, 1, 8)
    assert "<svg" in files[1].read_text()
    assert program.run("run", *program.stores, "--report", "/none/x", motto)[0] == 2
    full = ("run", *program.stores, "--closure", "--report", "/dev/full", *arguments[-4:], "exit 3")
    assert program.run(*full) == (3, b"", "narfs: no report: /dev/full: cannot be written: No space left on device\n")
