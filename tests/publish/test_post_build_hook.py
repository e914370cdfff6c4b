"""The hook alone, without Nix: tests/nix has it in builds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[2] / "scripts" / "post-build-hook"


@pytest.mark.parametrize("settings", ["if\n", "lake=$nonsense\n", "false\n"])
def test_settings_that_make_no_sense_fail_no_build(tmp_path: Path, settings: str) -> None:
    conf, built = tmp_path / "conf", tmp_path / "built"
    conf.write_text(settings)
    built.touch()
    told = {"NARFS_PUSH_CONF": str(conf), "NIX_STATE_DIR": str(tmp_path), "OUT_PATHS": str(built)}
    hook = subprocess.run(["sh", HOOK], env={**os.environ, **told}, capture_output=True, text=True, check=False)
    assert hook.returncode == 0, hook.stderr
    assert f"{conf} makes no sense; what was built waits in" in hook.stderr
    assert (tmp_path / "gcroots" / "narfs-push" / "built").is_symlink()
