"""Every input that ever taught something is tried again, and for a few seconds new ones are looked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.corpus import read
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, judge

SECONDS = 10


@pytest.mark.parametrize("target", TARGETS)
def test_what_strangers_write_is_read_or_refused(target: str) -> None:
    begun_with = seeds()[target]
    assert begun_with
    for data in [*read(target), *begun_with]:
        judge(target, data)
        judge(target, data[: len(data) // 2])
        judge(target, data + b"\0")


@pytest.mark.skipif(
    find_spec("atheris") is None, reason="needs atheris, which is made for x86-64 and Python up to 3.13"
)
def test_nothing_new_breaks_a_parser(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.fuzz", "all", "--seconds", str(SECONDS), "--found", str(tmp_path)]
    ran = subprocess.run(program, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert ran.returncode == 0, ran.stdout + ran.stderr
