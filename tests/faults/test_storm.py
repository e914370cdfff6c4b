"""Faults come and go, alone and together, while programs read: every byte is right, or there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.storm import Goal, rage
from tests.mount.kernel import needs_fuse, needs_root

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.mount, pytest.mark.faults, needs_fuse, needs_root]

IN_FULL, IN_SHORT = (
    Goal(reads=100_000, hits=100, most_s=2400),
    Goal(reads=2_000, hits=1, most_s=120, fault_s=0.4, calm_s=0.1),
)
"""The first takes about 10 minutes. The second has a round of all kinds, and ends in 2 minutes at the latest."""

SEED = 698
"""Its weather begins with what only a comparison finds out: other objects, and older ones, of the same form."""

DOCUMENTED = {"EIO", "ETIMEDOUT"}
SLOWEST_S = 2 * 10 + 2
"""A read-deadline for each of the two requests that 128 KiB may be, and what a busy machine takes."""


@pytest.mark.parametrize("frontend", ["tree", pytest.param("erofs", marks=pytest.mark.faults(in_ci=False))])
def test_no_read_gives_a_wrong_byte_in_any_weather(directory: Path, in_full: bool, frontend: str) -> None:
    goal = IN_FULL if in_full else IN_SHORT
    if frontend == "erofs":  # most reads the kernel answers
        goal = goal._replace(reads=goal.reads // 10)
    report = rage(directory, seed=SEED, goal=goal, frontend=frontend)
    assert report.wrong == [], report
    assert report.bugs == [], report
    assert report.trapped == 0, "a redirect led off the lake"
    assert report.failed.keys() <= DOCUMENTED, report
    assert report.slowest_s < SLOWEST_S, report
    assert report.reads >= goal.reads, report
    assert min(report.hits.values()) >= goal.hits, report


def test_the_storm_would_notice_wrong_bytes(directory: Path) -> None:
    """Without the comparison of what is fetched in parts the same weather gives wrong bytes."""
    goal = Goal(reads=10**9, hits=0, most_s=4, fault_s=0.3, calm_s=0.1)
    report = rage(directory, seed=SEED, goal=goal, module="benchmarks.unverified")
    assert len(report.wrong) > 0, report
