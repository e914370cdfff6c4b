"""The power goes: what was not synced is lost in any part and order. No byte is wrong, and what is damaged is dropped.

In full length 60 cuts at random moments under load; the numbers are in docs/reliability.md.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.crashes.disk import disk, mounted_image
from tests.crashes.world import BUDGET, MOST_NAR, World, readers
from tests.mount.kernel import needs_fuse, needs_root

pytestmark = [pytest.mark.mount, pytest.mark.faults, needs_fuse, needs_root]

DISK_BYTES = 48 * 1024 * 1024
BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_what_a_power_cut_leaves_is_right_or_is_dropped(world: World, in_full: bool) -> None:
    chance, faults = random.Random(11), Counter[str]()  # noqa: S311 - repeatable
    runs, cuts = (12, 5) if in_full else (1, 2)
    for _ in range(runs):
        for image in cut_under_load(world, chance, cuts):
            faults.update(check(world, image))
            image.unlink()
    print("power cuts", runs * cuts, dict(faults))  # noqa: T201 - for docs/reliability.md


def cut_under_load(world: World, chance: random.Random, cuts: int) -> list[Path]:
    images = []
    home = Path(tempfile.mkdtemp(dir=world.directory))
    with disk(home, DISK_BYTES, "commit=1") as platter:
        world.cache = platter.place / "cache"
        with world.mounted() as daemon, readers(world, 3, chance) as wrong:
            for number in range(cuts):
                time.sleep(chance.uniform(0, 1.5))
                images.append(home / f"cut-{number}")
                platter.cut(images[-1], chance.choice([0, *range(1, 1000)]))
            daemon.process.kill()
        assert wrong == []
    return images


def check(world: World, image: Path) -> list[str]:
    """Start on what is left, read and verify everything; give the kinds of faults that were found."""
    with mounted_image(image, world.directory / "after") as after:
        world.cache = after / "cache"
        lock = world.cache / "lock"
        if lock.exists():  # the machine that starts again is another
            lock.write_text(lock.read_text().replace(BOOT_ID, "of-before"))
        with world.mounted() as daemon:
            first = daemon.verify()
            daemon.compare()
            assert [flaw for flaw in daemon.verify() if flaw["why"] != "has no index, so nobody would read it"] == []
            status = daemon.ask("cache-status")
            assert status["used_bytes"] <= BUDGET + MOST_NAR
            assert abs(world.bytes_on_disk() - status["used_bytes"]) <= status["nars"] * 4 * 4096
            assert not status["unusable"]
    assert "Traceback" not in world.log()
    return [flaw["why"].split(":")[0].lstrip("0123456789 ") for flaw in first]
