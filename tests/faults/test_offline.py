"""A lake that cannot be reached: what is cached works, what is not fails fast, and its return is noticed."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults.kinds import Kind, Order
from tests.faults.lake import faulty_lake
from tests.faults.world import House, private_network
from tests.mount.kernel import needs_fuse, needs_root
from tests.support.lakes import Lake, Recipe
from tests.support.sealing import add_sealed
from tests.support.trees import File, Tree, read_from_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lakes import Member

pytestmark = [pytest.mark.mount, pytest.mark.faults, needs_fuse, needs_root]

SETTINGS = "stall-deadline = 3\nread-deadline = 20\nnegative-ttl = 1\n"


class Town(NamedTuple):
    """A house, what was read in it, and what was not."""

    house: House
    keys: list[str]
    read: list[Member]
    unread: list[Member]


@pytest.fixture
def town(directory: Path) -> Iterator[Town]:
    lake = Lake(directory / "lake")
    members = [lake.add(f"n{number}", _tree(number), Recipe("xz")) for number in range(6)]
    members += [add_sealed(lake, f"s{number}", _tree(6 + number), lake.secret_key) for number in range(6)]
    keys = lake.trusted_public_keys
    with (
        private_network(directory / "net") as inside,
        faulty_lake(directory / "lake", directory / "work", named=True, inside=inside) as faulty,
    ):
        arguments = ["--trusted-public-keys", keys, "--trusted-index-keys", keys]
        yield Town(House(directory, inside, faulty), arguments, members[::2], members[1::2])


def _tree(number: int) -> Tree:
    return {b"data": File(bytes([number]) * 400_000), b"bin": {b"tool": File(b"tool %d" % number, executable=True)}}


def errno_of(place: Path) -> str:
    try:
        place.lstat()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "found"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "order" in metafunc.fixturenames:
        orders = [Order(Kind.STALL, at=0), Order(Kind.REFUSE), Order(Kind.DNS)]
        in_full = metafunc.config.getoption("--faults")
        metafunc.parametrize("order", orders if in_full else orders[:1], ids=lambda order: order.kind)


def test_a_lake_that_is_gone_costs_one_wait_and_nothing_that_was_read(town: Town, order: Order) -> None:
    house, lake = town.house, town.house.lake
    with house.mounted(*town.keys, settings=SETTINGS) as place:
        for member in town.read:
            assert read_from_disk(place / member.path.base_name) == member.tree
        lake.begin(order)
        begun = time.monotonic()
        while lake.url not in house.status()["lakes"]["resting"]:
            errno_of(place / f"{'0' * 32}-looked-for")
        assert time.monotonic() - begun < 30, "one lookup's deadline, and what asking again takes"
        begun = time.monotonic()
        unknown = [errno_of(place / f"{number:032}-unknown") for number in range(1, 101)]
        known = [errno_of(place / member.path.base_name) for member in town.unread]
        assert time.monotonic() - begun < 30, "106 lookups, of which each might have waited for 3 s"
        assert {*unknown, *known} == {"EIO"}
        for member in town.read:
            assert read_from_disk(place / member.path.base_name) == member.tree
        lake.end()
        begun = time.monotonic()
        while {errno_of(place / member.path.base_name) for member in town.unread} != {"found"}:
            time.sleep(0.1)
        assert time.monotonic() - begun < 30
        for member in town.unread:
            assert read_from_disk(place / member.path.base_name) == member.tree
    told = [message for level, message in house.log() if level == "INFO"]
    assert sum("is down" in message for message in told) == 1
    assert sum("answers again" in message for message in told) == 1
    warned = house.warnings()
    assert len(warned) == len(set(warned)) <= 3, warned


@pytest.mark.parametrize("frontend", ["tree", "erofs"])
def test_a_closed_view_that_was_read_is_mounted_and_works_without_any_lake(town: Town, frontend: str) -> None:
    house = town.house
    paths = [word for member in town.read for word in ("--path", member.path.path)]
    arguments = [*town.keys, "--frontend", frontend, *paths]
    with house.mounted(*arguments, settings=SETTINGS) as place:
        for member in town.read:
            assert read_from_disk(place / member.path.base_name) == member.tree
    house.lake.begin(Order(Kind.REFUSE))
    begun = time.monotonic()
    with house.mounted(*arguments, settings=SETTINGS) as place:
        assert time.monotonic() - begun < 30
        for member in town.read:
            assert read_from_disk(place / member.path.base_name) == member.tree
