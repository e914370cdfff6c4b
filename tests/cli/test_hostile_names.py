"""What strangers name, a terminal shows and does not obey: colours, titles, and text that runs the other way."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import needs_fuse
from tests.support.lakes import Recipe
from tests.support.trees import File, Symlink

if TYPE_CHECKING:
    from tests.cli.program import Program
    from tests.support.lakes import Member

EVIL = "\x1b]0;owned\x07\x1b[2J\u202etxt.exe\u2066\x9b31m"
NAME = EVIL.encode()


@pytest.fixture
def evil(program: Program) -> Member:
    """A path with names, a target and a line in its narinfo that no terminal should see."""
    member = program.lake.add("evil", {NAME: File(b"x"), b"link": Symlink(NAME)}, Recipe("xz"))
    program.lake.put(replace(member.narinfo, ca=f"text:{EVIL}", extra=(("X", EVIL),)))
    return member


def on_a_terminal(program: Program, *arguments: str) -> str:
    """Run it where a person sits; give what the terminal gets, but for the colours and lines that are its own."""
    leader, follower = os.openpty()
    with os.fdopen(leader, "rb", buffering=0) as seen:
        process = subprocess.Popen(
            [sys.executable, "-m", "narfs", *arguments],
            env={**program.environ, "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        shown = b""
        try:
            while part := seen.read(65536):
                shown += part
        except OSError:  # EIO: nobody has the other end any more
            pass
        process.wait(60)
    return shown.decode()


def assert_harmless(shown: str) -> None:
    assert all(line.isprintable() for line in shown.replace("\r", "").split("\n")), ascii(shown)


@pytest.mark.parametrize(
    "command", [("ls",), ("ls", "-R"), ("info",), ("cat",), ("ls", "--json"), ("info", "--json"), ("-vv", "ls")]
)
def test_nothing_that_a_lake_names_reaches_a_terminal(program: Program, evil: Member, command: tuple[str, ...]) -> None:
    path = f"{evil.path.path}/absent{EVIL}" if command == ("cat",) else evil.path.path
    shown = on_a_terminal(program, *command, *program.stores, path)
    assert evil.path.base_name in shown or "link" in shown
    assert_harmless(shown)


@pytest.mark.parametrize("url", [f"nar/{EVIL}", f"../{EVIL}", f"https://elsewhere.test/{EVIL}"])
def test_nor_does_what_its_narinfos_point_to(program: Program, evil: Member, url: str) -> None:
    program.lake.put(replace(evil.narinfo, url=url))
    shown = on_a_terminal(program, "-vv", "ls", *program.stores, evil.path.path)
    assert "narfs: " in shown
    assert_harmless(shown)


@needs_fuse
@pytest.mark.mount
def test_logs_and_status_are_lines_that_a_terminal_can_show(program: Program, evil: Member) -> None:
    lost = program.lake.add("lost", File(b"lost"))
    program.lake.put(replace(lost.narinfo, url=f"nar/{EVIL}").sign(program.lake.secret_key))
    with program.mounted() as place:
        assert (place / evil.path.base_name / EVIL).read_bytes() == b"x"
        with pytest.raises(PermissionError):
            (place / lost.path.base_name).read_bytes()
        assert_harmless(on_a_terminal(program, "status"))
    (log,) = Path(program.environ["XDG_STATE_HOME"]).rglob("mount*.log")
    told = log.read_text()
    assert lost.path.hash_part in told
    assert_harmless(told)


def test_an_argument_that_is_repeated_is_harmless_too(program: Program) -> None:
    for arguments in (("ls", EVIL), (EVIL,), ("ls", "--store", f"file:///{EVIL}", "x"), ("mount", EVIL)):
        _, _, said = program.run(*arguments)
        assert said
        assert_harmless(said)


def test_the_log_of_a_bug_keeps_its_lines(program: Program) -> None:
    code = (
        "import logging, sys\n"
        "from narfs.daemon.log_lines import LineFormatter\n"
        "handler = logging.StreamHandler(); handler.setFormatter(LineFormatter('narfs: %(message)s'))\n"
        "logging.getLogger().addHandler(handler)\n"
        f"try: raise ValueError({EVIL!r})\n"
        f"except ValueError: logging.exception('of %s', {EVIL!r})\n"
    )
    _, _, said = program.run_python(code)
    assert said.count("\n") > 3
    assert_harmless(said)
