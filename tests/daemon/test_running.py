"""``narfs run`` with a tmpfs in the daemon's role: namespaces, signals and exit codes need no FUSE."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534

STAGE = """
import ctypes, os, signal, sys
from pathlib import Path
from narfs.daemon import linux
from narfs.daemon.running import Program, supervise

def serve(view, announcer):
    linux.mount("view", view, kind="tmpfs")
    tool = Path(view, "x-tool", "bin", "hello")
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\\necho hello from $0\\n")
    tool.chmod(0o755)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    announcer.ready()
    signal.sigwait({signal.SIGTERM})
    Path(os.environ["MARKS"], "goodbye").touch()
    return 0

user = int(os.environ["USER_ID"])
if user != os.geteuid():
    # Here and not in Popen: the interpreter may be installed where only root can read.
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    PR_SET_DUMPABLE = 4  # an exec would do that
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
program = Program(tuple(sys.argv[1:]), ("/nix/store/x-tool/bin",))
sys.exit(supervise(program, serve, runtime=Path(os.environ["MARKS"], "run"), deadline_s=20))
"""


class Stage:
    """A place for one ``run``, as root or as somebody without privileges."""

    def __init__(self, marks: Path, user: int) -> None:
        self.marks = marks
        self.user = user

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", STAGE, *command],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "MARKS": str(self.marks), "USER_ID": str(self.user)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str) -> tuple[int, str, str]:
        with self.start(*command) as process:
            out, err = process.communicate(timeout=30)
            return process.returncode, out, err


def _namespace_users() -> list[int]:
    return [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]


@pytest.fixture(params=_namespace_users(), ids=lambda user: "root" if user == 0 else "unprivileged")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    # Not tmp_path: its parents are closed to other users.
    marks = Path(tempfile.mkdtemp(prefix="narfs-run-"))
    os.chown(marks, request.param, -1)
    yield Stage(marks, request.param)
    shutil.rmtree(marks)


def test_the_program_sees_the_view_on_the_store(stage: Stage) -> None:
    assert stage.run("/nix/store/x-tool/bin/hello") == (0, "hello from /nix/store/x-tool/bin/hello\n", "")


def test_nobody_else_sees_it(stage: Stage) -> None:
    stage.run("/nix/store/x-tool/bin/hello")
    mounts = Path("/proc/self/mountinfo").read_text(encoding="latin-1").splitlines()
    assert [line for line in mounts if f"{stage.marks}/" in line or " - tmpfs view " in line] == []
    assert not Path("/nix/store/x-tool").exists()
    assert list((stage.marks / "run" / "view").iterdir()) == []


def test_a_bare_name_is_looked_up_in_the_path_s_bin_first_and_then_in_path(stage: Stage) -> None:
    assert stage.run("hello")[1] == "hello from /nix/store/x-tool/bin/hello\n"
    assert stage.run("echo", "from the host") == (0, "from the host\n", "")


def test_the_rest_of_the_host_is_where_it_was(stage: Stage) -> None:
    script = 'ls -d / /bin /proc/self /tmp && pwd && id -u && test -w "$MARKS"'
    host = subprocess.run(["ls", "-d", "/", "/bin", "/proc/self", "/tmp"], capture_output=True, text=True, check=True)  # noqa: S108 - a name, not a file
    code, out, err = stage.run("sh", "-c", script)
    assert (code, err) == (0, "")
    assert out == f"{host.stdout}{REPOSITORY}\n{stage.user}\n"


def test_the_program_s_exit_code_is_ours(stage: Stage) -> None:
    assert stage.run("sh", "-c", "exit 37")[0] == 37
    assert stage.run("sh", "-c", "kill -SEGV $$")[0] == 128 + signal.SIGSEGV


def test_a_program_that_cannot_run_is_127_or_126(stage: Stage) -> None:
    code, _, err = stage.run("no-such-program")
    assert (code, err) == (127, "narfs: no-such-program: not found in /nix/store/x-tool/bin or $PATH\n")
    assert stage.run("/etc/passwd")[0] == 126


def test_signals_reach_the_program(stage: Stage) -> None:
    with stage.start("sh", "-c", "trap 'echo caught; exit 5' USR1; echo up; while :; do sleep 0.05; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=30) == ("caught\n", "")
        assert process.returncode == 5


def test_the_daemon_is_told_to_go_when_the_program_has_ended(stage: Stage) -> None:
    stage.run("true")
    assert (stage.marks / "goodbye").exists()


def test_program_and_daemon_go_when_narfs_is_killed(stage: Stage) -> None:
    with stage.start("sh", "-c", "echo $$; exec sleep 60") as process:
        assert process.stdout is not None
        program = int(process.stdout.readline())
        held = os.pidfd_open(program)
        process.kill()
        process.wait()
        # Both hold our pipe: its end says that both are gone.
        assert process.stdout.read() == ""
        os.close(held)
    assert (stage.marks / "goodbye").exists()
