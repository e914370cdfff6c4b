"""Every benchmark of the matrix still works: once, on the smallest inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import WANTS_S

pytestmark = [
    pytest.mark.mount,
    pytest.mark.nix,
    pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to drop the kernel's caches"),
]

REPOSITORY = Path(__file__).parents[2]


def test_all_of_them_run() -> None:
    command = (sys.executable, "-m", "benchmarks", "all", "--quick")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "failed" not in done.stderr.splitlines()[-1]
    assert all(f"benchmarks: {name} (" in done.stderr for name in WANTS_S)
