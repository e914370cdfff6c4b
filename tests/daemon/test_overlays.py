"""Overlays over views, as this kernel tells of them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from narfs.daemon.overlays import check_bare
from narfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")

LINUX = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])

IN_ONE_TEXT = """
import subprocess, sys
layers = "lowerdir={}:{}".format(*sys.argv[1:3])
subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, sys.argv[3]], check=True)
"""
ONE_BY_ONE = """
import ctypes, sys
first, second, place = (word.encode() for word in sys.argv[1:])
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if (answer := libc.syscall(number, *arguments)) < 0:
        raise OSError(ctypes.get_errno(), number)
    return answer
made = call(430, b"overlay", 0)  # fsopen
call(431, made, 1, b"lowerdir+", first, 0)  # fsconfig: a string
call(431, made, 1, b"lowerdir+", second, 0)
call(431, made, 6, None, None, 0)  # create
call(429, call(432, made, 0, 0), b"", -100, place, 4)  # move_mount of what fsmount gives
"""
WAIT = "\nprint('mounted', flush=True)\nsys.stdin.read()\n"


@pytest.mark.parametrize(
    "script",
    [
        IN_ONE_TEXT,
        pytest.param(ONE_BY_ONE, marks=pytest.mark.skipif(LINUX < (6, 8), reason="Linux 6.8 has it")),
    ],
    ids=["in one text", "one by one"],
)
def test_an_overlay_of_another_namespace_is_found_by_each_of_its_layers(tmp_path: Path, script: str) -> None:
    view, other, place = (tmp_path / name for name in ("view", "other", "place"))
    for directory in (view, other, place):
        directory.mkdir()
    check_bare("one", str(view))
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", script + WAIT]
    with subprocess.Popen(
        [*command, other, view, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mounted\n"
        for directory in (view, other):
            with pytest.raises(UsageError, match=f"at {place} .process {process.pid} has it"):
                check_bare("one", str(directory))
        check_bare("one", str(place))
        process.communicate("")
    check_bare("one", str(view))
