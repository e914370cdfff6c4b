from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from narfs import __version__
from narfs.cli.commands import COMMANDS, main, narfs
from narfs.cli.output import escaped

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.program import Program

MAIN = """
import sys
from narfs.cli import main
try:
    main({arguments})
finally:
    heavy = {{"trio", "httpx", "pyfuse3", "nacl", "rich"}} & set(sys.modules)
    assert not heavy, heavy
"""


def test_help_names_every_command_and_loads_no_event_loop(program: Program) -> None:
    code, out, said = program.run_python(MAIN.format(arguments=["--help"]))
    assert (code, said) == (0, "")
    assert all(f"  {name} " in out.decode() for name in COMMANDS)


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("narfs.daemon.hosting, narfs.daemon.serving", {"httpx", "rich", "obstore"}),  # for proxies and progress bars
        ("narfs.daemon.background, narfs.daemon.running, narfs.mount.mounted", {"trio"}),  # who only waits for a daemon
        ("narfs.daemon.asking, narfs.daemon.unmounting, narfs.daemon.views.asking", {"trio"}),
    ],
)
def test_nobody_loads_what_he_does_not_need(program: Program, modules: str, heavy: set[str]) -> None:
    code, _, said = program.run_python(
        f"import sys, {modules}\nloaded = {heavy} & set(sys.modules)\nassert not loaded, loaded"
    )
    assert (code, said) == (0, "")


@pytest.mark.parametrize("words", ["narfs m", "narfs mount --st", "narfs run --clo"])
def test_completion_loads_no_event_loop(program: Program, words: str) -> None:
    completing = {"_NARFS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code, out, said = program.run_python(MAIN.format(arguments=[]), completing)
    assert (code, said) == (0, "")
    assert words.rsplit(maxsplit=1)[-1].encode() in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches(name: str) -> None:
    command = getattr(importlib.import_module(f"narfs.cli.{COMMANDS[name][0]}"), name)
    assert isinstance(command, click.Command)
    shown = CliRunner().invoke(narfs, [name, "--help"])
    assert shown.exit_code == 0
    assert command.help
    assert name == "umount" or "Examples:" in shown.output


def test_the_version_is_the_package_s() -> None:
    assert CliRunner().invoke(narfs, ["--version"]).output == f"narfs, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["mount"],
        ["mount", "--verify", "never", "/mnt"],
        ["mount", "-f", "-o", "suid", "/mnt"],
        ["ls", "--cache-size", "lots", "x"],
        ["ls", "not-a-store-path"],
        ["info", "--store", "gopher://x", "0c6kzph7l0dcbfmjap64f0czdafn3b7x"],
        ["run", "/nix/store/0c6kzph7l0dcbfmjap64f0czdafn3b7x-x"],
        ["run", "0c6kzph7l0dcbfmjap64f0czdafn3b7x", "--", "true"],
        ["run", "/nix/store/0c6kzph7l0dcbfmjap64f0czdafn3b7x-x", "--closure"],
        ["push", "--to", "/nowhere", "--secret-key-file", "absent", "tree"],
        ["push", "--to", "/nowhere", "--secret-key-file", __file__, "tree"],
        ["push", "--to", "/nowhere", "--reference", "x", "tree"],
        ["push", "--store", "/nowhere", "tree"],
        ["info", "--read-deadline", "3", "x"],
    ],
)
def test_usage_errors_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    for variable in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "NIX_CONF_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    out, said = capsys.readouterr()
    assert (exited.value.code, out) == (2, "")
    assert (said.count("\n"), said[:5]) == (1, "narfs")


def test_a_mistyped_option_is_named_with_what_may_have_been_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["mount", "--verif", "x", "/mnt"])
    said = capsys.readouterr().err
    assert said == "narfs mount: No such option '--verif'. Did you mean '--verify'?; narfs mount --help tells more\n"


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main([])
    assert exited.value.code == 2
    assert "Commands:" in capsys.readouterr().err


def test_an_expected_failure_is_one_line_and_a_traceback_only_for_who_asks(program: Program) -> None:
    arguments = ("cat", *program.stores, f"{program.tool.path.path}/absent")
    code, out, said = program.run(*arguments)
    assert (code, out) == (1, b"")
    assert said == f"narfs: {program.tool.path.path}/absent: no such file or directory\n"
    assert "Traceback" in program.run("--debug", *arguments)[2]


def test_interrupted_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(narfs, "invoke", interrupt)
    with pytest.raises(SystemExit) as exited:
        main(["status"])
    assert exited.value.code == 130
    assert "".join(capsys.readouterr()).strip() == ""


def test_a_reader_that_has_enough_is_no_failure_to_shout_about(program: Program) -> None:
    process = program.start("cat", *program.stores, f"{program.library.path.path}/lib/data")
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_names_are_escaped_for_a_terminal() -> None:
    assert escaped(b"plain name") == b"plain name"
    assert escaped("größe".encode()) == "größe".encode()
    assert escaped(b"\x1b[31m\n\xff\\") == rb"\x1b[31m\x0a\xff\\"
