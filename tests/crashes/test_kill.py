"""kill -9 of a mount under load, at every kind of moment: no byte is wrong, nothing piles up, sums are right.

In full length 60 at each point and 260 at any time; the numbers are in docs/reliability.md.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter

import pytest

from tests.crashes.points import POINTS
from tests.crashes.world import BUDGET, MOST_NAR, PATIENCE_S, Daemon, World, noise, readers
from tests.mount.kernel import needs_fuse
from tests.publish.test_push_kill import KEY
from tests.publish.test_push_kill import check as check_lake

pytestmark = [pytest.mark.mount, pytest.mark.faults, needs_fuse]

BLOCK = 4096
LEFT_BY_A_KILL = "has no index, so nobody would read it"


def check(world: World, daemon: Daemon) -> None:
    """See that the kill before cost nothing but what was not finished."""
    daemon.compare()
    assert [flaw for flaw in daemon.verify() if flaw["why"] != LEFT_BY_A_KILL] == []
    assert daemon.verify() == []
    gives_up = time.monotonic() + PATIENCE_S
    while apart := budget_is_apart(world, daemon):
        assert time.monotonic() < gives_up, apart
        time.sleep(0.2)


def budget_is_apart(world: World, daemon: Daemon) -> str:
    """Say what is recorded and not so on disk; what was read ahead may still be on its way there, or out of scratch."""
    status = daemon.ask("cache-status")
    assert status["bad_chunks"] == 0
    assert status["used_bytes"] <= BUDGET + MOST_NAR
    # The files of a NAR are three, and each takes whole blocks; a chunk counts as it is, its last block as a whole.
    most_apart, on_disk = status["nars"] * 4 * BLOCK, world.bytes_on_disk()
    if abs(on_disk - status["used_bytes"]) > most_apart:
        return f"{on_disk} bytes on disk: {status}"
    left = list((world.cache / "scratch").iterdir())
    return "" if status["drafts"] > 0 or len(left) <= 1 else f"left in scratch: {left}"


def kill_once(world: World, chance: random.Random, point: str, variant: int, *, in_full: bool) -> bool:
    """Start, check what the last kill left, read, kill at the point; say whether it came to that."""
    nth = chance.choice([1, 1, 2, 3, 8, 20])
    with world.mounted(point=point, variant=variant, nth=nth) as daemon, readers(world, 3, chance) as wrong:
        if point == "-":
            time.sleep(chance.random())
            reached = True
        else:
            reached = daemon.paused(10 if in_full else PATIENCE_S)  # of sixty not each comes
        daemon.kill()
    assert wrong == []
    with world.mounted() as daemon:
        check(world, daemon)
    return reached


@pytest.mark.parametrize("point", [point for point in POINTS if point != "publish"])
def test_a_kill_at_that_moment_costs_nothing_but_what_was_not_finished(world: World, point: str, in_full: bool) -> None:
    chance, reached = random.Random(point), Counter[int]()  # noqa: S311 - repeatable
    variants = len(POINTS[point])
    for number in range(60 if in_full else 1):
        variant = number % variants if in_full else chance.randrange(variants)
        if kill_once(world, chance, point, variant, in_full=in_full):
            reached[variant] += 1
    print(point, dict(reached))  # noqa: T201 - for docs/reliability.md
    assert reached.total() >= (50 if in_full else 1)


def test_a_kill_at_any_moment_costs_nothing_but_what_was_not_finished(world: World, in_full: bool) -> None:
    chance = random.Random(9)  # noqa: S311 - repeatable
    for _ in range(260 if in_full else 2):
        kill_once(world, chance, "-", 0, in_full=in_full)


def test_a_kill_of_a_push_leaves_a_valid_lake(world: World, in_full: bool) -> None:
    chance, reached = random.Random("publish"), Counter[int]()  # noqa: S311 - repeatable
    sources, lake, key = (world.directory / name for name in ("sources", "target", "key"))
    sources.mkdir()
    key.write_text(KEY.to_text())
    for number, size in enumerate([100, 5_000, 80_000, 300_000, 1_500_000, 2_500_000]):
        (sources / f"s{number}").write_bytes(noise(number, size))
    push = ["push", "--to", f"file://{lake}", "--secret-key-file", str(key), *map(str, sorted(sources.iterdir()))]
    for number in range(60 if in_full else 1):
        variant = number % len(POINTS["publish"])
        with world.start(*push, point="publish", variant=variant, nth=chance.choice([1, 1, 2, 4, 6])) as process:
            daemon = Daemon(world, process)
            if daemon.paused(PATIENCE_S):  # or it has ended
                reached[variant] += 1
            if process.poll() is None:
                daemon.kill()
        there = check_lake(lake) if (lake / "nix-cache-info").exists() else set()
        left = sum(1 for file in lake.rglob("*.tmp.*"))
        assert left <= 4 * 6 + 1  # of one push: what the next would find is not more each time
        with world.start(*push) as process:
            assert process.wait(PATIENCE_S) == 0
        assert there <= check_lake(lake)
        assert len(check_lake(lake)) == 6
        shutil.rmtree(lake)
    print("publish", dict(reached))  # noqa: T201 - for docs/reliability.md
    assert reached.total() >= (50 if in_full else 1)
