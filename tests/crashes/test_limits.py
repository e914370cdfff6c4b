"""A machine that has no more of something: the daemon lives or ends, says why, and no byte is wrong."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.crashes.world import PATIENCE_S, World, readers
from tests.mount.kernel import needs_fuse

ONLY_IN_FULL = pytest.mark.faults(in_ci=False)

pytestmark = [pytest.mark.mount, pytest.mark.faults, needs_fuse]


def read_for(world: World, seconds: float) -> list[OSError]:
    """Read as fast as it goes; give the failures that programs saw."""
    failed: list[OSError] = []
    with readers(world, 4, random.Random(1), failed) as wrong:  # noqa: S311 - repeatable
        time.sleep(seconds)
    assert wrong == []
    return failed


@pytest.mark.parametrize("most", [40, pytest.param(60, marks=ONLY_IN_FULL)])
def test_no_more_descriptors(world: World, most: int, in_full: bool) -> None:
    with world.mounted(point="files", nth=most) as daemon:
        failed = read_for(world, 20 if in_full else 1)
        assert daemon.process.poll() is None
        assert all(error.errno == 5 for error in failed), failed[:3]
        assert daemon.end() == 0
    print("descriptors", most, len(failed))  # noqa: T201 - for docs/reliability.md
    assert not failed or "Too many open files" in world.log()
    assert "Traceback" not in world.log()
    with world.mounted() as daemon:
        daemon.compare()
        assert [flaw for flaw in daemon.verify() if "differ" in flaw["why"]] == []


@pytest.mark.parametrize("spare", [15, *(pytest.param(few, marks=ONLY_IN_FULL) for few in (2, 8, 30))])
def test_no_more_memory(world: World, spare: int, in_full: bool) -> None:
    with world.mounted(point="memory", nth=8192) as daemon:
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        needs = int(status.partition("VmPeak:")[2].split()[0]) // 1024
    with world.mounted(point="memory", nth=needs + spare) as daemon:
        failed = read_for(world, 20 if in_full else 1)
        ended = daemon.process.poll()
        if ended is None:
            ended = daemon.end()
    print("memory", spare, len(failed), ended)  # noqa: T201 - for docs/reliability.md
    if spare >= 8:  # what it does with less is up to whoever asks for memory at that moment; what it leaves is not
        assert ended == 0
    if spare == 30:
        assert failed == []
    with world.mounted() as daemon:
        daemon.compare()
        assert [flaw for flaw in daemon.verify() if "differ" in flaw["why"]] == []


def test_a_clock_that_jumps(world: World, in_full: bool) -> None:
    for seed in range(20 if in_full else 2):
        with world.mounted(point="clock", nth=seed) as daemon:
            daemon.compare()
            assert daemon.verify() == []
            assert daemon.end() == 0
    assert "Traceback" not in world.log()


def test_of_many_daemons_on_one_cache_one_serves_and_the_others_name_it(world: World, in_full: bool) -> None:
    others = 8 if in_full else 3
    for _ in range(5 if in_full else 1):
        with world.mounted() as daemon:
            places = [world.directory / f"other-{number}" for number in range(others)]
            for place in places:
                place.mkdir(exist_ok=True)
            processes = [
                world.start("mount", "-f", "--store", world.lake.url, "--cache-dir", str(world.cache), str(place))
                for place in places
            ]
            assert read_for(world, 0.5) == []
            for process in processes:
                with process:
                    assert process.wait(PATIENCE_S) == 1
            daemon.compare()
            assert daemon.verify() == []
            named = f"cache {world.cache} is in use by process {daemon.process.pid}"
            assert daemon.end() == 0
        assert world.log().count(named) == others
