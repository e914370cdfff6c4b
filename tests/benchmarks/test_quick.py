"""Every benchmark of the matrix still works: once, on the smallest inputs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import WANTS_S

pytestmark = [
    pytest.mark.mount,
    pytest.mark.nix,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to drop the kernel's caches"),
    *(
        pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is missing: scripts/setup --test")
        for program in ("nix", "nginx", "mksquashfs", "squashfuse", "curl", "zstd")
    ),
]

REPOSITORY = Path(__file__).parents[2]


ALONE = 'mount --bind "$0" /proc/sys/vm/drop_caches; exec "$@"'
"""What other tests have in memory stays there: some of them look whether it is."""


def test_all_of_them_run(tmp_path: Path) -> None:
    (tmp_path / "dropped").touch()
    inside = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", ALONE, tmp_path / "dropped")
    command = (*inside, sys.executable, "-m", "benchmarks", "all", "--quick")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "dropped").read_text() == "3\n"
    assert all(f"benchmarks: {name} (" in done.stderr for name in WANTS_S)
