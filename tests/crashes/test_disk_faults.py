"""A cache disk that fails under load: programs see right bytes and no errors, the log says so in a line, and it heals.

The disk is a real ext4 on a loop device, whose writes and reads fail where the device is (``disk.py``).
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crashes.disk import disk, mounted_image
from tests.crashes.test_power_cut import DISK_BYTES, check
from tests.crashes.world import PATIENCE_S, World, readers
from tests.mount.kernel import needs_fuse, needs_root

if TYPE_CHECKING:
    from collections.abc import Iterator

ONLY_IN_FULL = pytest.mark.faults(in_ci=False)

pytestmark = [pytest.mark.mount, pytest.mark.faults, needs_fuse, needs_root]


@pytest.fixture
def seconds(in_full: bool) -> float:
    """How long programs read on a disk that is in trouble."""
    return 20 if in_full else 1


@contextmanager
def nothing_seen(world: World, name: str) -> Iterator[None]:
    """Let programs read while the block runs; none of them may see anything."""
    failed: list[OSError] = []
    with readers(world, 3, random.Random(name), failed) as wrong:  # noqa: S311 - repeatable
        time.sleep(0.5)
        yield
    assert wrong == []
    assert failed == []


def trouble_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if "serving uncached, will try again" in line]


def wait_for_trouble(world: World) -> None:
    gives_up = time.monotonic() + PATIENCE_S
    while not trouble_in(world.log()):
        assert time.monotonic() < gives_up
        time.sleep(0.1)


def fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(65536)):
            pass


@pytest.mark.parametrize(
    "kinds",
    [("read", "write"), pytest.param(("read",), marks=ONLY_IN_FULL), pytest.param(("write",), marks=ONLY_IN_FULL)],
)
def test_a_disk_that_answers_eio(world: World, kinds: tuple[str, ...], seconds: float) -> None:
    with disk(world.directory, DISK_BYTES) as platter:
        world.cache = platter.place / "cache"
        with world.mounted() as daemon:
            with nothing_seen(world, "eio"):
                platter.fail(*kinds)
                subprocess.run(["sync", "-f", platter.place], check=False, capture_output=True)
                time.sleep(seconds)
                if "write" in kinds:
                    wait_for_trouble(world)
            assert daemon.end() == 0
        assert ("write" in kinds) <= len(trouble_in(world.log())) <= 3
        assert "Traceback" not in world.log()
        platter.fail()
        image = world.directory / "image"
        platter.cut(image, 0)
    check(world, image)


def test_a_disk_whose_kept_chunks_cannot_be_read_again(world: World, seconds: float) -> None:
    with disk(world.directory, DISK_BYTES) as platter:
        world.cache = platter.place / "cache"
        with world.mounted() as daemon:
            daemon.compare()
            assert daemon.end() == 0
        image = world.directory / "fuse" / "disk.img"
        subprocess.run(["umount", platter.place], check=True)  # nothing of it is in memory any more
        with mounted_image(image, platter.place), world.mounted() as daemon:
            with nothing_seen(world, "read again"):
                platter.fail("read")
                time.sleep(seconds)
            platter.fail()
            assert daemon.end() == 0
        subprocess.run(["mount", "-o", "loop", image, platter.place], check=True)
    assert "Traceback" not in world.log()


def test_a_disk_that_is_full_and_has_room_again(world: World, seconds: float) -> None:
    with disk(world.directory, DISK_BYTES) as platter:
        world.cache = platter.place / "cache"
        with world.mounted() as daemon:
            with nothing_seen(world, "full"):
                fill(platter.place / "filler")
                time.sleep(seconds)
                (platter.place / "filler").unlink()
            daemon.compare()
            gives_up = time.monotonic() + 60
            while daemon.ask("cache-status")["unusable"]:
                daemon.compare()
                assert time.monotonic() < gives_up
                time.sleep(0.5)
            assert daemon.verify() == []
            assert daemon.end() == 0
    assert "Traceback" not in world.log()


@ONLY_IN_FULL
def test_a_disk_that_becomes_read_only(world: World, seconds: float) -> None:
    with disk(world.directory, DISK_BYTES, "errors=remount-ro") as platter:
        world.cache = platter.place / "cache"
        with world.mounted() as daemon:
            with nothing_seen(world, "read only"):
                trigger_error(platter.place)
                time.sleep(seconds)
            daemon.compare()
            assert daemon.end() == 0
        assert len(trouble_in(world.log())) == 1
        image = world.directory / "fuse" / "disk.img"
        subprocess.run(["umount", platter.place], check=True)
        with mounted_image(image, platter.place):
            pass  # what its journal has is brought home: a disk that is read-only cannot do that
        with mounted_image(image, platter.place, "ro"), world.mounted() as daemon:  # one that is from the beginning
            daemon.compare()
            assert daemon.end() == 0
        subprocess.run(["mount", "-o", "loop", image, platter.place], check=True)
    assert "Read-only file system" in world.log()
    assert "everything is fetched anew each time it is read" in world.log()
    assert "Traceback" not in world.log()


def trigger_error(place: Path) -> None:
    """Have ext4 take its disk for damaged, which makes it read-only."""
    device = place.stat().st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("ordered by a test")
