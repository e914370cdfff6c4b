"""A disk that is full, read-only, somebody else's or without holes: CacheUnusable, one warning, and reads go on."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from narfs.cache.chunk_cache import ChunkCache
from narfs.cache.health import Health
from narfs.errors import CacheHeld, CacheUnusable
from tests.cache.nars import CHUNK, keep, make_nar, opened, read_all

HERE = Path(__file__).parent
can_mount = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare for a private mount"
)


def play(scene: str, place: Path, mount: str) -> None:
    """Run a function of ``scenes.py`` with ``place`` a file system of its own that nobody else sees."""
    place.mkdir()
    script = f'{mount} "$1" && exec "$2" -m tests.cache.scenes {scene} "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", place, sys.executable],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 32:
        pytest.skip(f"cannot mount: {done.stderr}")
    assert done.returncode == 0, done.stderr


@can_mount
def test_a_full_disk_is_served_uncached_and_noticed_when_it_has_room_again(tmp_path: Path) -> None:
    play("full_disk", tmp_path / "disk", "mount -t tmpfs -o size=8m none")


@can_mount
def test_a_disk_that_is_full_to_the_brim_can_still_be_evicted_from(tmp_path: Path) -> None:
    play("eviction_on_a_full_disk", tmp_path / "disk", "mount -t tmpfs -o size=8m none")


@can_mount
def test_a_read_only_disk_gives_no_cache(tmp_path: Path) -> None:
    play("read_only_disk", tmp_path / "disk", "mount -t tmpfs -o size=8m none")


@can_mount
def test_a_disk_that_takes_no_more_writes_is_still_read_from(tmp_path: Path) -> None:
    play("no_more_writes", tmp_path / "disk", "mount -t tmpfs -o size=8m none")


@can_mount
def test_a_file_system_without_holes_loses_whole_nars(tmp_path: Path) -> None:
    play("no_holes", tmp_path / "disk", "mount -t ramfs none")


@pytest.mark.parametrize("scene", ["index_that_is_cut", "no_more_threads"])
def test_what_would_end_a_process_does_not(tmp_path: Path, scene: str) -> None:
    command = [sys.executable, "-m", "tests.cache.scenes", scene, str(tmp_path)]
    done = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_the_second_holder_learns_the_pid_of_the_first(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with opened(tmp_path):
        with pytest.raises(CacheHeld) as caught:
            await ChunkCache.open(tmp_path, budget_bytes=1, keep_free_bytes=0, nursery=nursery)
        assert caught.value.pid == os.getpid()
        assert str(os.getpid()) in str(caught.value)


async def test_a_directory_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    cache = trio.Path(tmp_path)
    await cache.chmod(0o755)
    async with opened(tmp_path):
        assert (await cache.stat()).st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
async def test_a_directory_of_another_user_is_refused(tmp_path: Path, nursery: trio.Nursery) -> None:
    os.chown(tmp_path, 1234, 1234)
    with pytest.raises(CacheUnusable, match="belongs to user 1234"):
        await ChunkCache.open(tmp_path, budget_bytes=1, keep_free_bytes=0, nursery=nursery)


async def test_a_cache_where_a_file_is_in_the_way_is_unusable(tmp_path: Path, nursery: trio.Nursery) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(CacheUnusable):
        await ChunkCache.open(tmp_path / "cache", budget_bytes=1, keep_free_bytes=0, nursery=nursery)


async def test_a_power_cut_is_told_and_a_kill_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nar = make_nar(3 * CHUNK)
    async with opened(tmp_path) as cache:
        await keep(cache, nar)
        killed = (tmp_path / "lock").read_bytes()
    for state, warnings in ((killed, 0), (killed.replace(b"-", b"+"), 1)):
        (tmp_path / "lock").write_bytes(state)
        async with opened(tmp_path) as cache:
            cached = cache.nar(nar.nar_hash)
            assert cached is not None
            assert await read_all(cached) == nar.data
        assert len(caplog.records) == warnings
    async with opened(tmp_path):
        assert len(caplog.records) == 1


async def test_trouble_is_told_once_and_tried_again_less_and_less_often(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    health = Health("/cache")
    health.require()
    waits = []
    for _ in range(9):
        assert isinstance(health.failed("full"), CacheUnusable)
        health.failed("full")
        with pytest.raises(CacheUnusable, match="/cache: full"):
            health.require()
        waited = 0
        while not health.usable:
            mock_clock.jump(5)
            waited += 5
        waits.append(waited)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    health.worked()
    assert not health.in_trouble
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
