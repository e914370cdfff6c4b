"""kill -9 in the middle of a push: the lake is valid at every moment, and the next push sends what is missing."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs.formats.compression import decoder
from narfs.formats.narinfo import NarInfo
from narfs.formats.seal import unseal
from narfs.formats.signature import PublicKeys, SecretKey

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = SecretKey.generate("kill.test-1")
HOUSE = Path(__file__).parents[2]
PATIENCE_S = 60.0


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A push of 30 small trees, 30 that mention them, and three that are not small."""
    dice, sources = random.Random(7), tmp_path / "sources"  # noqa: S311 - repeatable
    sources.mkdir()
    (tmp_path / "key").write_text(KEY.to_text())
    to = ["--to", f"file://{tmp_path}/lake", "--secret-key-file", str(tmp_path / "key"), "--json"]
    push = [sys.executable, "-m", "narfs", "push", *to]
    for number in range(30):
        (sources / f"b-{number}").write_bytes(dice.randbytes(dice.randrange(100, 150_000)))
    named = subprocess.run([*push, "--dry-run", *sources.iterdir()], cwd=HOUSE, stdout=subprocess.PIPE, check=True)
    for number, root in enumerate(json.loads(named.stdout)["roots"]):
        (sources / f"a-{number}").write_bytes(root.encode() + dice.randbytes(dice.randrange(100, 150_000)))
    for number in range(3):
        (sources / f"c-{number}").write_bytes(dice.randbytes(2_500_000))
    return [*push, *map(str, sorted(sources.iterdir()))]


def push_and_kill(command: Sequence[str], lake: Path, objects: int) -> list[int]:
    """Kill a push when the lake has so many objects; give the packing processes it had."""
    with subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.DEVNULL) as process:
        gives_up = time.monotonic() + PATIENCE_S
        while len(objects_of(lake)) < objects:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < gives_up
        packers = [
            int(pid)
            for task in Path(f"/proc/{process.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return packers


def objects_of(lake: Path) -> dict[str, int]:
    """Give the objects and their inodes: one that is written again has another."""
    found = (entry for folder in (lake, lake / "nar") if folder.exists() for entry in os.scandir(folder))
    return {entry.name: entry.inode() for entry in found if entry.is_file() and ".tmp." not in entry.name}


def check(lake: Path) -> set[str]:
    """Hold the lake to what its readers rely on; give the hash parts of its paths."""
    narinfos = {file.stem: NarInfo.parse(file.read_bytes()) for file in lake.glob("*.narinfo")}
    for narinfo in narinfos.values():
        blob = (lake / narinfo.url).read_bytes()
        decode = decoder(narinfo.compression, nar_size=narinfo.nar_size)
        nar = b"".join(decode.feed(blob))
        decode.finish()
        assert hashlib.sha256(nar).digest() == narinfo.nar_hash
        assert narinfo.index_name
        unseal((lake / narinfo.index_name).read_bytes(), narinfo, PublicKeys((KEY.public,)))
        assert {one.hash_part for one in narinfo.references} <= narinfos.keys()
    return set(narinfos)


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("objects", [1, 9, 70, 150, 230])
def test_a_killed_push_leaves_a_valid_lake_and_the_next_sends_what_is_missing(
    command: list[str], tmp_path: Path, objects: int
) -> None:
    lake = tmp_path / "lake"
    packers = push_and_kill(command, lake, objects)
    there = check(lake) if (lake / "nix-cache-info").exists() else set()
    before = objects_of(lake)
    gives_up = time.monotonic() + PATIENCE_S
    while not all(map(has_ended, packers)):
        assert time.monotonic() < gives_up, "packing processes outlive their push"
    told = json.loads(subprocess.run(command, cwd=HOUSE, stdout=subprocess.PIPE, check=True).stdout)
    assert {one["path"][11:43] for one in told["paths"] if one["status"] == "present"} == there
    assert len(check(lake)) == 63
    after = objects_of(lake)
    kept = {f"{part}{ending}" for part in there for ending in (".narinfo", ".narfs", ".ls")}
    large = {name for name in before if name.endswith(".zst") and (lake / "nar" / name).stat().st_size > 64 * 1024}
    assert {name: after[name] for name in kept | large} == {name: before[name] for name in kept | large}
