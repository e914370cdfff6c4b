"""What a program sees of each fault, what is said of it, what is counted, and that it is over when it is over."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults.kinds import CONNECTING, Kind, Order
from tests.faults.lake import faulty_lake
from tests.faults.world import House, private_network
from tests.mount.kernel import needs_fuse, needs_root
from tests.support.lakes import Lake
from tests.support.sealing import add_sealed
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.mount, pytest.mark.faults, needs_fuse, needs_root]

DEADLINE_S = 10
BUSY_S = 10
"""What a busy machine takes."""
SETTINGS = f"stall-deadline = 1\nread-deadline = {DEADLINE_S}\n"
NOISE = random.Random(3)  # noqa: S311 - any noise will do


class Lasting(NamedTuple):
    """What a read gets while a fault lasts, and what is counted of it."""

    answers: set[str]
    counter: str


STORIES = {
    Kind.RESET: Lasting({"EIO"}, "retries_total"),
    Kind.STALL: Lasting({"ETIMEDOUT"}, "retries_total"),
    Kind.DRIP: Lasting({"ETIMEDOUT"}, "retries_total"),
    Kind.CUT: Lasting({"EIO"}, "retries_total"),
    Kind.STATUS: Lasting({"EIO"}, "retries_total"),
    Kind.BUSY: Lasting({"EIO"}, "retries_total"),
    Kind.LENGTH: Lasting({"EIO", "right"}, "retries_total"),
    Kind.IGNORED_RANGE: Lasting({"right"}, "ranges_ignored_total"),
    Kind.LYING_RANGE: Lasting({"EIO", "right"}, "requests_total"),
    Kind.FLIP: Lasting({"EIO"}, "corrupt"),
    Kind.SWAP: Lasting({"EIO"}, "corrupt"),
    Kind.OLD: Lasting({"EIO"}, "corrupt"),
    Kind.LOOP: Lasting({"EIO"}, "requests_total"),
    Kind.OFF: Lasting({"EIO"}, "requests_total"),
    Kind.BOMB: Lasting({"EIO"}, "requests_total"),
    Kind.REFUSE: Lasting({"EIO"}, "retries_total"),
    Kind.CERTIFICATE: Lasting({"EIO"}, "requests_total"),
    Kind.DNS: Lasting({"EIO"}, "retries_total"),
}
AT_ONCE = {Kind.IGNORED_RANGE, Kind.FLIP, Kind.SWAP, Kind.OLD, Kind.LOOP, Kind.OFF, Kind.BOMB, Kind.CERTIFICATE}
"""Those whose story takes less than a second; the others wait for five attempts."""

SEEN = {Kind.OFF: "EIO", Kind.BOMB: "EIO"}
"""What a program sees even of a single wrong answer: nobody asks again what was answered so."""


class Town(NamedTuple):
    """A house that is mounted, and what is in its files: two paths for each kind of fault."""

    frontend: str
    house: House
    files: dict[tuple[str, Kind], tuple[Path, bytes]]

    def seen_as(self, answer: str) -> str:
        """Give what a program sees of an answer: with EROFS the kernel keeps no cause."""
        return "EIO" if self.frontend == "erofs" and answer == "ETIMEDOUT" else answer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        lasting = metafunc.function is test_a_fault_that_lasts_is_an_errno_in_time_and_over_when_it_ends
        short = lasting and not metafunc.config.getoption("--faults")
        metafunc.parametrize("kind", [kind for kind in Kind if not short or kind in AT_ONCE])


@pytest.fixture(scope="module", params=["tree", pytest.param("erofs", marks=pytest.mark.faults(in_ci=False))])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    directory = tmp_path_factory.mktemp("town")
    lake, old = Lake(directory / "lake"), Lake(directory / "lake" / "old")
    keys = lake.trusted_public_keys
    arguments = ["--frontend", request.param, "--trusted-public-keys", keys, "--trusted-index-keys", keys]
    contents: dict[tuple[str, Kind], tuple[str, bytes]] = {}
    for kind in Kind:
        for what in ("lasting", "passing"):
            data = NOISE.randbytes(100_000)
            name = f"{what}-{kind.name}"
            member = add_sealed(lake, name, {b"data": File(data)}, lake.secret_key)
            before = add_sealed(old, name, {b"data": File(NOISE.randbytes(100_000))}, lake.secret_key)
            (old.directory / member.narinfo.url).write_bytes(old.blob_file(before).read_bytes())
            contents[what, kind] = member.path.base_name, data
            arguments += ["--path", member.path.path]
    with (
        private_network(directory / "net") as inside,
        faulty_lake(lake.directory, directory / "work", named=True, inside=inside) as faulty,
    ):
        house = House(directory, inside, faulty)
        with house.mounted(*arguments, settings=SETTINGS) as place:
            yield Town(
                request.param, house, {key: (place / base / "data", data) for key, (base, data) in contents.items()}
            )


@pytest.fixture(autouse=True)
def _well_again(town: Town) -> Iterator[None]:
    yield
    town.house.lake.end()


def attempt(file: Path, data: bytes) -> str:
    """Read a file as a program does; give the name of the errno, or whether it was right.

    A read that fails in the middle gives what came before, and the next one the errno.
    """
    read = b""
    try:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            while part := os.pread(descriptor, len(data) + 1, len(read)):
                read += part
        finally:
            os.close(descriptor)
    except OSError as error:
        return errno.errorcode[error.errno or 0] if data.startswith(read) else "wrong"
    return "right" if read == data else "wrong"


def well_again_after_s(file: Path, data: bytes, until_then: str) -> float:
    """Read until it is right; behind EROFS the kernel has asked again meanwhile, and the failure was remembered."""
    begun = time.monotonic()
    while (answer := attempt(file, data)) != "right":
        assert answer == until_then
        time.sleep(0.1)
    return time.monotonic() - begun


def counters(house: House) -> dict[str, int]:
    told = house.status()
    return {
        **told["lakes"]["lakes"][house.lake.url],
        **told["engine"]["counters"],
        **{f"failed {name}": count for name, count in told["requests"]["failures"].items()},
    }


def test_a_fault_that_lasts_is_an_errno_in_time_and_over_when_it_ends(town: Town, kind: Kind) -> None:
    house, story = town.house, STORIES[kind]
    file, data = town.files["lasting", kind]
    said, counted = len(house.warnings()), counters(house)
    house.lake.begin(Order(kind, "/nar/*"))
    begun = time.monotonic()
    answers = [attempt(file, data), attempt(file, data)]
    assert set(answers) <= {town.seen_as(answer) for answer in story.answers}
    assert time.monotonic() - begun < 2 * DEADLINE_S + BUSY_S
    house.lake.end()
    assert well_again_after_s(file, data, answers[0]) < BUSY_S
    now = counters(house)
    assert now[story.counter] > counted[story.counter]
    for answer in story.answers - {"right"}:
        seen = town.seen_as(answer) in answers
        assert (now.get(f"failed {answer}", 0) > counted.get(f"failed {answer}", 0)) == seen
    lines = house.warnings()[said:]
    assert len(lines) == len(set(lines)), "once"
    assert (len(lines) > 0) == (answers[0] != "right" or kind is Kind.LYING_RANGE)
    assert len(lines) <= 4
    assert house.lake.trapped() == 0


def test_a_fault_that_passes_is_seen_by_nobody(town: Town, kind: Kind) -> None:
    house = town.house
    file, data = town.files["passing", kind]
    house.lake.begin(Order(kind, "/nar/*", times=None if kind in CONNECTING else 1))
    if kind in CONNECTING and kind is not Kind.CERTIFICATE:
        threading.Timer(0.5, house.lake.end).start()
    expected = "EIO" if kind is Kind.CERTIFICATE else SEEN.get(kind, "right")
    assert attempt(file, data) == expected
    house.lake.end()
    assert well_again_after_s(file, data, expected) < BUSY_S
    assert house.lake.trapped() == 0
