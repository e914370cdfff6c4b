"""Mount and run as somebody without privileges, in a mount namespace where /dev/fuse is open to all, as usual."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import PATIENCE_S, REPOSITORY, needs_fuse

if TYPE_CHECKING:
    from tests.cli.program import Program

NOBODY = 65534
BECOME_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")

SCRIPT = """
set -e
mknod "$HOME/fuse" c 10 229
chmod 666 "$HOME/fuse"
mount --bind "$HOME/fuse" /dev/fuse
exec {become} sh -ec '{commands}'
"""


def _python_for_everybody() -> str | None:
    """Find an interpreter of our version that others may execute: a virtual environment's may be below /root."""
    for candidate in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        # Through a shell: setpriv itself still may look below /root when it executes.
        tried = subprocess.run([*BECOME_NOBODY, "sh", "-c", f"{candidate} -c ''"], capture_output=True, check=False)
        if tried.returncode == 0:
            return candidate
    return None


@pytest.mark.mount
@needs_fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (package util-linux) is not installed")
def test_without_privileges_mounts_and_namespaces_work_too(program: Program) -> None:
    python = _python_for_everybody()
    if python is None:
        pytest.skip("no interpreter of this version that other users may execute")
    program.home.chmod(0o755)
    own = program.home / "nobody"
    (own / "mnt").mkdir(parents=True)
    for path in (own, own / "mnt"):
        os.chown(path, NOBODY, NOBODY)
    tool, stores = program.tool.path, " ".join(f'"{word}"' for word in program.stores)
    commands = f"""
        {python} -m narfs run {stores} {tool.path} -- tool in a namespace
        {python} -m narfs run {stores} --closure {tool.path} -- id -u
        {python} -m narfs mount {stores} mnt
        stat -c "%u %a" mnt/{program.library.path.base_name}/motto
        {python} -m narfs umount mnt
    """
    site = next(path for path in sys.path if (Path(path) / "pyfuse3").is_dir())
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(own),
        "PYTHONPATH": f"{REPOSITORY}:{site}",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{f"XDG_{name}": str(own / name.lower()) for name in ("CACHE_HOME", "STATE_HOME", "RUNTIME_DIR")},
    }
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", SCRIPT.format(become=" ".join(BECOME_NOBODY), commands=commands)],
        env=environ,
        cwd=own,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"be lazy\nargs: in a namespace\n{NOBODY}\n{NOBODY} 444\n"
