"""Many readers, many open files, many files, many requests with views coming and going: what is left afterwards.

In full length (``scripts/test --faults tests/load``, 10 minutes) with the numbers that people ask about; in CI with
smaller ones. What was measured is printed (``-s``).
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.program import REPOSITORY, needs_fuse
from tests.load.house import Held, House, make_house
from tests.load.tree import contents_of, name_of, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.lakes import Member

pytestmark = [
    pytest.mark.mount,
    pytest.mark.faults,
    needs_fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: what EROFS shows"),
]

_MEBI = 1 << 20
FRONTENDS = ("tree", "erofs")


@pytest.fixture(scope="module")
def files(in_full: bool) -> int:
    return 20_000 if in_full else 2_000


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with make_house() as made:
        yield made


@pytest.fixture(scope="module")
def member(house: House, files: int) -> Member:
    return house.program.lake.add("many", tree_of(files))


def told(what: str, **facts: object) -> None:
    print(json.dumps({"load": what, **facts}))  # noqa: T201 - for who writes docs/reliability.md


def asking(place: Path, files: int, threads: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.load.asking", str(place), str(files), str(threads), str(seconds)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def answer_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=3600)
    assert process.returncode == 0
    answer: dict[str, Any] = json.loads(out)
    assert answer["wrong"] == []
    return answer


def settled(house: House) -> Held:
    """Look when nothing is under way any more: links to lakes and threads that rest go within seconds."""
    least = house.held()
    for _ in range(30):
        subprocess.run(["sleep", "0.5"], check=True)
        now = house.held()
        if now[2:] == least[2:]:
            return now
        least = Held(*map(min, now, least))
    return least


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_a_thousand_readers_at_once_are_all_answered(
    house: House, member: Member, files: int, in_full: bool, frontend: str
) -> None:
    place = house.show("readers", member.path.path, frontend) / member.path.base_name
    readers = [asking(place, files, 100, 20 if in_full else 1) for _ in range(10 if in_full else 1)]
    answers = [answer_of(reader) for reader in readers]
    assert house.ask("status")["requests"]["failures"] == {}
    told(
        "readers",
        frontend=frontend,
        readers=100 * len(readers),
        done=sum(answer["done"] for answer in answers),
        p99_ms=[round(answer["p99_s"] * 1000, 1) for answer in answers],
        slowest_s=round(max(answer["slowest_s"] for answer in answers), 2),
    )
    house.ask("view-remove", name="readers")


def test_ten_thousand_open_files_are_read_and_forgotten(house: House, member: Member, files: int) -> None:
    count = files // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 1000), hard))
    place = house.show("open", member.path.path, "tree") / member.path.base_name
    opened: list[int] = []
    before = house.held()
    try:
        opened += (os.open(place / name_of(number), os.O_RDONLY) for number in range(count))
        assert house.ask("status")["requests"]["open_files"] == count
        most = house.held()
        for number, fd in enumerate(opened):
            assert os.pread(fd, 4096, 0) == contents_of(number)
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    house.ask("view-remove", name="open")
    for _ in range(120):  # the kernel tells of closed files behind what somebody waits for
        if house.ask("status")["requests"]["open_files"] == 0:
            break
        subprocess.run(["sleep", "0.5"], check=True)
    assert house.ask("status")["requests"]["open_files"] == 0
    after = settled(house)
    assert most.descriptors - before.descriptors < 16, "an open file takes none of the daemon's"
    told("open files", files=count, bytes_each=round((most.resident - before.resident) / count), after=after._asdict())


@pytest.mark.parametrize("frontend", ["tree", pytest.param("erofs", marks=pytest.mark.faults(in_ci=False))])
def test_a_view_of_a_million_files_is_walked_in_bounded_memory(in_full: bool, frontend: str) -> None:
    files, paths = (20_000, 50) if in_full else (2_000, 3)
    with make_house() as house:
        lake = house.program.lake
        tree = tree_of(files)
        whole = [lake.add(f"part-{number}", {**tree, b"own": tree_of(number + 1)}).path for number in range(paths)]
        top = lake.add("top", tree_of(1), references=whole)
        before = house.held()
        place = house.show("million", top.path.path, frontend)
        found = subprocess.run(["find", place, "-type", "f", "-printf", "."], capture_output=True, check=True)
        seen = len(found.stdout)
        assert seen >= files * paths
        after = house.held()
        house.ask("view-remove", name="million", lazily=True)
        grown_mib = (after.resident - before.resident) / _MEBI
        assert grown_mib < 16 + 20 * seen / 100_000, "B13's target, and what the first pass loads"
        told(
            "files",
            frontend=frontend,
            seen=seen,
            grown_mib=round(grown_mib, 1),
            resident_mib=round(after.resident / _MEBI),
        )


def test_many_requests_with_views_coming_and_going_leave_nothing_behind(
    house: House, member: Member, files: int, in_full: bool
) -> None:
    wanted = 2_000_000 if in_full else 30_000
    places = [house.show(f"staying-{each}", member.path.path, each) / member.path.base_name for each in FRONTENDS]

    def come_and_go(number: int) -> None:
        other = house.show("going", member.path.path, FRONTENDS[number % 2]) / member.path.base_name
        for each in range(number % 100, files, 97):
            assert (other / name_of(each)).read_bytes() == contents_of(each)
        house.ask("view-remove", name="going", lazily=True)

    seen: list[tuple[int, int]] = []
    p99: list[float] = []
    views = 0

    def load_until(requests: int) -> None:
        nonlocal views
        begun = house.requests()
        while (done := house.requests() - begun) < requests:
            loads = [asking(place, files, 4, 10 if in_full else 1) for place in places]
            while any(load.poll() is None for load in loads):
                come_and_go(views)
                views += 1
            p99.append(max(answer_of(load)["p99_s"] for load in loads))
            seen.append((done, house.held().anonymous))

    load_until(wanted // 2)  # what is loaded once, and what the allocator keeps: for 300 views it grows by 10 MB
    before, begun = settled(house), house.requests()
    seen.clear()
    load_until(wanted)
    after = settled(house)
    slope = statistics.linear_regression(*zip(*seen, strict=True)).slope * 1e6 / _MEBI
    told(
        "requests",
        requests=house.requests() - begun,
        views=views,
        mib_per_million=round(slope, 2),
        p99_ms=[round(each * 1000, 1) for each in (min(p99), statistics.median(p99), max(p99))],
        before=before._asdict(),
        after=after._asdict(),
    )
    for frontend in FRONTENDS:
        house.ask("view-remove", name=f"staying-{frontend}")
    # One for each view would be more: some rest for a while, as threads do for ten seconds.
    assert after.tasks < before.tasks + views / 4
    assert after.descriptors <= before.descriptors + 4
    assert after.threads < 16
    if in_full:
        assert slope < 1, "MiB for each million requests"
