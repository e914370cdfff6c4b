"""kill -9 at any moment: what is left is right, or is a miss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs.cache.chunk_cache import ChunkCache
from narfs.offsets import NarOffset
from tests.cache import victim
from tests.cache.nars import dice, opened

if TYPE_CHECKING:
    import trio

HOUSE = Path(__file__).parent.parent.parent


def run_and_kill(directory: Path, after_lines: int, *mode: str) -> list[str]:
    """Let the victim work until it has reported ``after_lines`` steps, kill it in whatever it does next."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cache.victim", directory, *mode], cwd=HOUSE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        steps = [process.stdout.readline().strip() for _ in range(after_lines)]
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return steps


@pytest.mark.parametrize("after_lines", [1, 2, 5, 14, 40])
async def test_after_a_kill_nothing_is_wrong_and_the_cache_goes_on(tmp_path: Path, after_lines: int) -> None:
    run_and_kill(tmp_path, after_lines)
    async with opened(tmp_path, budget_bytes=victim.BUDGET) as cache:
        assert list((tmp_path / "scratch").iterdir()) == []
        for nar in victim.NARS:
            if (cached := cache.nar(nar.nar_hash)) is None:
                continue
            for chunk in range(nar.index.grid.count):
                span = nar.index.grid.span(chunk)
                data = await cached.read(span.start, span.length)
                assert data in (nar.chunk(chunk), None)
        assert cache.statistics().bad_chunks == 0
        for nar in victim.NARS:
            await victim.read_through(cache, nar)
        await cache.catalog.flush()
        on_disk = sum(file.stat().st_blocks * 512 for file in (tmp_path / "nar").glob("*/*.nar"))
        assert on_disk <= victim.BUDGET + victim.NARS[0].index.nar_size


async def test_after_a_kill_everything_that_was_kept_is_there(tmp_path: Path) -> None:
    nar = victim.NARS[int(run_and_kill(tmp_path, 1, "pause")[0].split()[1])]
    async with opened(tmp_path) as cache:
        cached = cache.nar(nar.nar_hash)
        assert cached is not None
        assert await cached.read(NarOffset(0), len(nar.data)) == nar.data


async def test_what_was_recorded_wrongly_is_put_right_when_the_nar_is_opened(tmp_path: Path) -> None:
    nar = victim.NARS[0]
    async with opened(tmp_path) as cache:
        await victim.read_through(cache, nar)
        right = cache.statistics().used_bytes
    for wrong in (-right, 7_000_000):
        async with opened(tmp_path) as cache:
            cache.catalog.grow(nar.nar_hash, 0, wrong)
        async with opened(tmp_path) as cache:
            assert abs(cache.statistics().used_bytes - right) > right // 2
            assert await cache.load(nar.nar_hash) is not None
            await cache.catalog.flush()
            assert abs(cache.statistics().used_bytes - right) < 3 * victim.CHUNK


async def test_a_killed_holder_does_not_hold(tmp_path: Path, nursery: trio.Nursery) -> None:
    run_and_kill(tmp_path, 1)
    cache = await ChunkCache.open(tmp_path, budget_bytes=1, keep_free_bytes=0, nursery=nursery)
    await cache.aclose()


async def test_random_reads_after_many_kills_are_right(tmp_path: Path) -> None:
    chance = dice(3)
    for _ in range(2):
        run_and_kill(tmp_path, chance.randrange(1, 30))
    async with opened(tmp_path, budget_bytes=victim.BUDGET) as cache:
        for nar in victim.NARS:
            if (cached := cache.nar(nar.nar_hash)) is not None:
                data = await cached.read(NarOffset(0), len(nar.data))
                assert data in (nar.data, None)
