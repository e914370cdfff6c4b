"""``systemd/``, installed and run by a systemd that has booted."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs.daemon.erofs import kernel
from tests.cli.program import needs_fuse
from tests.support.lakes import Lake, Recipe
from tests.support.trees import File
from tests.systemd.machine import HERE, PATIENCE_S, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.lakes import Member

pytestmark = [
    pytest.mark.mount,
    needs_fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to boot a systemd"),
]

NOISE = random.Random(0).randbytes(32 << 20)  # noqa: S311

UNITS = ("narfs.service", "mnt-store.mount")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="narfs-systemd-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def lake(directory: Path) -> Lake:
    return Lake(directory / "lake")


@pytest.fixture(scope="module")
def member(lake: Lake) -> Member:
    return lake.add("library", {b"motto": File(b"be lazy\n")})


@pytest.fixture(scope="module")
def unread(lake: Lake) -> Member:
    return lake.add("unread", {b"motto": File(b"be strict\n")}, Recipe("xz"))


@pytest.fixture(scope="module")
def large(lake: Lake) -> Member:
    return lake.add("large", File(NOISE))


@pytest.fixture(scope="module")
def booted(directory: Path, lake: Lake, member: Member, unread: Member, large: Member) -> Iterator[Machine]:
    assert large.nar
    with Machine(directory) as machine:
        shutil.copytree(lake.directory, machine.path("/srv/cache"))
        assert {member.narinfo.compression, unread.narinfo.compression} == {"zstd", "xz"}
        config = machine.path("/etc/narfs/config.toml")
        config.write_text(
            f'store = ["file:///srv/cache"]\ntrusted-public-keys = "{lake.trusted_public_keys}"\n{config.read_text()}'
        )
        yield machine


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """A machine with the units installed, and nothing started before or after."""
    yield booted
    booted.run("systemctl", "stop", *UNITS)
    booted.start("systemctl", "reset-failed", "narfs")  # or all tests together would start it too often
    assert booted.mounts() == []


@pytest.fixture
def served(machine: Machine) -> Iterator[Machine]:
    """The daemon runs, and shows one view at /srv/one."""
    machine.path("/srv/one").mkdir(exist_ok=True)
    machine.run("systemctl", "start", "narfs")
    yield machine
    for line in machine.run("narfs", "view", "list").splitlines():
        machine.run("narfs", "view", "remove", "--lazy", line.split("\t")[0])


@pytest.fixture
def erofs(directory: Path) -> None:
    """See that EROFS can be had: as here, so in the machine, whose /var is on the disk of ``directory``."""
    if trouble := kernel.trouble(directory, directory):
        pytest.skip(trouble)


@pytest.fixture(params=["tree", "erofs"])
def frontend(request: pytest.FixtureRequest) -> str:
    """Who shows a view."""
    name: str = request.param
    if name == "erofs":
        request.getfixturevalue("erofs")
    return name


def own_mounts(frontend: str) -> list[str]:
    return [f"/run/narfs/private/{name}" for name in (("stage",) if frontend == "tree" else ("stage", "slabs"))]


def wait_for(met: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < until, "it did not come"
        select.select([], [], [], 0.1)


def wait_for_another(machine: Machine, main: str) -> None:
    """Wait until another process than ``main`` serves."""
    wait_for(lambda: machine.property("narfs", "MainPID") not in {main, "0"})
    wait_for(lambda: machine.property("narfs", "ActiveState") == "active")


def motto(machine: Machine, place: str, member: Member) -> str:
    return machine.start("cat", f"{place}/{member.path.base_name}/motto").stdout


def test_systemd_finds_nothing_wrong_with_the_units(machine: Machine) -> None:
    done = machine.start("systemd-analyze", "verify", *(f"/etc/systemd/system/{unit}" for unit in UNITS))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_daemon_that_always_hangs_is_given_up() -> None:
    text = (HERE.parents[1] / "systemd/narfs.service").read_text()
    told = {name: int(number) for name, number in re.findall(r"^(\w+)=(\d+)(?:min)?$", text, re.MULTILINE)}
    each_s = 10 + told["WatchdogSec"] + told["RestartSec"]  # it may take 10 s to start
    assert told["StartLimitBurst"] * each_s < 60 * told["StartLimitIntervalSec"]


def test_group_and_directories_are_made(machine: Machine) -> None:
    assert machine.run("getent", "group", "narfs").startswith("narfs:")
    places = ("/run/narfs", "/var/cache/narfs", "/var/lib/narfs", "/var/log/narfs")
    assert machine.run("stat", "--format=%a %U", *places).splitlines() == [
        "755 root",
        "700 root",
        "700 root",
        "750 root",
    ]


def test_the_exposure_is_what_the_document_says(machine: Machine) -> None:
    told = machine.run("systemd-analyze", "security", "--no-pager", "narfs.service")
    (figure,) = re.findall(r"Overall exposure level for narfs.service: ([0-9.]+)", told)
    (documented,) = re.findall(
        r"systemd-analyze security` gives ([0-9.]+)", (HERE.parents[1] / "docs/operations.md").read_text()
    )
    assert float(figure) <= float(documented)


def test_a_view_of_the_service_is_seen_by_everybody(served: Machine, member: Member, frontend: str) -> None:
    assert served.property("narfs", "ActiveState") == "active"
    path = member.path.path
    served.run("narfs", "view", "create", "one", "--path", path, "--at", "/srv/one", "--frontend", frontend)
    assert motto(served, "/srv/one", member) == "be lazy\n"
    assert served.mounts() == [*own_mounts(frontend), "/srv/one"]
    main = served.property("narfs", "MainPID")
    assert served.run("readlink", f"/proc/{main}/ns/mnt") == served.run("readlink", "/proc/1/ns/mnt")
    served.run("systemctl", "stop", "narfs")
    assert served.mounts() == []
    served.run("systemctl", "start", "narfs")
    assert motto(served, "/srv/one", member) == "be lazy\n"


def test_the_network_and_workers_can_be_had_inside_the_hardening(served: Machine, lake: Lake, unread: Member) -> None:
    server = ("-m", "http.server", "--directory", "/srv/cache", "--bind", "127.0.0.1", "8080")
    served.run("systemd-run", "--unit=web", sys.executable, *server)
    store = ("--store", "http://127.0.0.1:8080", "--trusted-public-keys", lake.trusted_public_keys)
    try:
        wait_for(lambda: served.start("narfs", "info", *store, unread.path.path).returncode == 0)
        served.run("narfs", "view", "create", "one", *store, "--path", unread.path.path, "--at", "/srv/one")
        assert motto(served, "/srv/one", unread) == "be strict\n"
        assert "narfs.engine.worker" in served.run("systemctl", "status", "--no-pager", "--full", "narfs")
    finally:
        served.run("systemctl", "stop", "web")


def test_members_of_the_group_may_look_and_others_may_not(served: Machine, member: Member) -> None:
    group = served.run("getent", "group", "narfs").split(":")[2]
    as_somebody = ("setpriv", "--reuid=1000", "--regid=1000")
    # A mount of root's has its socket in the same directory, and must not close it for others.
    served.path("/srv/two").mkdir(exist_ok=True)
    served.run("narfs", "mount", "--cache-dir", "/var/cache/two", "/srv/two")
    served.run("narfs", "umount", "/srv/two")
    in_group = (*as_somebody, f"--groups={group}", "env", "XDG_RUNTIME_DIR=/run")
    assert served.start(*in_group, "narfs", "view", "list").returncode == 0
    assert "root" in served.start(*in_group, "narfs", "view", "create", "x", "--path", member.path.path).stderr
    alone = (*as_somebody, "--clear-groups", "env", "XDG_RUNTIME_DIR=/run")
    assert served.start(*alone, "narfs", "view", "list").returncode == 1


def test_a_reload_counts_for_the_next_view(served: Machine, member: Member) -> None:
    config = served.path("/etc/narfs/config.toml")
    before = config.read_text()
    try:
        config.write_text(before.replace("/srv/cache", "/srv/nothing"))
        served.run("systemctl", "reload", "narfs")
        wait_for(lambda: served.start("narfs", "view", "create", "one", "--path", member.path.path).returncode != 0)
    finally:
        config.write_text(before)
    served.run("systemctl", "reload", "narfs")
    wait_for(lambda: served.start("narfs", "view", "create", "two", "--path", member.path.path).returncode == 0)
    assert served.property("narfs", "NRestarts") == "0"


def test_a_daemon_that_hangs_is_killed_and_its_views_come_back(machine: Machine, member: Member, frontend: str) -> None:
    machine.write("/run/systemd/system/narfs.service.d/impatient.conf", "[Service]\nWatchdogSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.path("/srv/one").mkdir(exist_ok=True)
    machine.run("systemctl", "start", "narfs")
    path = member.path.path
    machine.run("narfs", "view", "create", "one", "--path", path, "--at", "/srv/one", "--frontend", frontend)
    machine.run("sh", "-c", f"kill -STOP {machine.property('narfs', 'MainPID')}")
    wait_for(lambda: machine.property("narfs", "NRestarts") != "0")
    wait_for(lambda: motto(machine, "/srv/one", member) == "be lazy\n")
    assert set(machine.mounts()) == {*own_mounts(frontend), "/srv/one"}
    machine.run("narfs", "view", "remove", "one")


_READER = """
import hashlib, os, sys, time
found, fd, at = hashlib.sha256(), os.open(sys.argv[1], os.O_RDONLY), 0
while data := os.pread(fd, 1 << 17, at):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if at == 0:
        open("/srv/reading", "w").close()
    time.sleep(0.01)
    if at < 16 << 20 or os.path.exists("/srv/replaced"):  # else the same piece once more
        found.update(data)
        at += len(data)
print(found.hexdigest(), flush=True)
"""


@pytest.mark.usefixtures("erofs")
@pytest.mark.parametrize(("through", "how"), [("/srv/one", "restart"), ("/srv/store", "kill")])
def test_who_reads_notices_nothing_when_the_daemon_is_replaced(
    served: Machine, member: Member, large: Member, through: str, how: str
) -> None:
    paths = ("--path", member.path.path, "--path", large.path.path)
    served.run("narfs", "view", "create", "one", *paths, "--at", "/srv/one", "--frontend", "erofs")
    overlay = through != "/srv/one"
    if overlay:  # as a build has it
        served.path(through).mkdir(exist_ok=True)
        served.run("narfs", "overlay", "create", through, "--view", "one", "--upper", "/var/upper", "--no-registration")
    mounts, main = served.mounts(), served.property("narfs", "MainPID")
    for moment in ("reading", "replaced"):
        served.path(f"/srv/{moment}").unlink(missing_ok=True)
    reader = served.begin(sys.executable, "-c", _READER, f"{through}/{large.path.base_name}")
    wait_for(served.path("/srv/reading").exists)
    if how == "restart":
        served.run("systemctl", "restart", "narfs")
    else:
        served.run("sh", "-c", f"kill -KILL {main}")
    wait_for_another(served, main)
    assert reader.poll() is None
    assert motto(served, through, member) == "be lazy\n"
    served.path("/srv/replaced").touch()
    assert reader.communicate(timeout=PATIENCE_S) == (f"{hashlib.sha256(NOISE).hexdigest()}\n", "")
    assert set(served.mounts()) == set(mounts)
    if overlay:
        served.run("sh", "-c", f"echo built > {through}/out")
        served.run("narfs", "overlay", "remove", through)
        assert served.run("cat", "/var/upper/out") == "built"
    (view,) = json.loads(served.run("narfs", "view", "list", "--json"))
    assert view["frontend"] == "erofs"
    served.run("narfs", "view", "remove", "one")
    served.run("systemctl", "stop", "narfs")
    assert served.mounts() == []
    served.run("systemctl", "start", "narfs")


_RANDOM_READER = """
import hashlib, json, os, random, sys, time
(_, file, model, until), chance = sys.argv, random.Random(os.getpid())
done, wrong, longest = 0, 0, 0.0
fd, expected = os.open(file, os.O_RDONLY), os.open(model, os.O_RDONLY)
while not os.path.exists(until):
    at, begun = chance.randrange(0, 32 << 20, 4096), time.monotonic()
    found = os.pread(fd, 65536, at)
    longest, done = max(longest, time.monotonic() - begun), done + 1
    wrong += found != os.pread(expected, 65536, at)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
print(json.dumps({"done": done, "wrong": wrong, "longest_s": round(longest, 2)}), flush=True)
"""


@pytest.mark.usefixtures("erofs")
@pytest.mark.faults(in_ci=False)
def test_a_hundred_daemons_one_after_the_other_lose_no_read_and_no_mount(
    served: Machine, member: Member, large: Member
) -> None:
    paths = ("--path", member.path.path, "--path", large.path.path)
    served.run("narfs", "view", "create", "one", *paths, "--at", "/srv/one", "--frontend", "erofs")
    mounts = set(served.mounts())
    served.path("/srv/model").write_bytes(NOISE)
    served.path("/srv/enough").unlink(missing_ok=True)
    file = f"/srv/one/{large.path.base_name}"
    readers = [served.begin(sys.executable, "-c", _RANDOM_READER, file, "/srv/model", "/srv/enough") for _ in range(3)]
    for number in range(100):
        main = served.property("narfs", "MainPID")
        served.run("systemctl", "reset-failed", "narfs")  # or it would be too many in too short a time
        if number % 2:
            served.run("systemctl", "restart", "narfs")
        else:
            served.run("sh", "-c", f"kill -KILL {main}")
        wait_for_another(served, main)
        assert set(served.mounts()) == mounts
    served.path("/srv/enough").touch()
    answers = [json.loads(reader.communicate(timeout=PATIENCE_S)[0]) for reader in readers]
    print(json.dumps(answers))  # noqa: T201 - for docs/reliability.md
    assert [answer["wrong"] for answer in answers] == [0, 0, 0]
    assert all(reader.returncode == 0 for reader in readers)
    served.run("narfs", "view", "remove", "one")


def test_a_wrong_configuration_is_not_tried_again(machine: Machine) -> None:
    config = machine.path("/etc/narfs/config.toml")
    before = config.read_text()
    config.write_text("stores = 1\n")
    try:
        assert machine.start("systemctl", "start", "narfs").returncode != 0
        assert machine.property("narfs", "ActiveState") == "failed"
        assert machine.property("narfs", "NRestarts") == "0"
    finally:
        config.write_text(before)
        machine.run("systemctl", "reset-failed", "narfs")


def test_a_mount_unit_mounts_and_unmounts(machine: Machine, member: Member) -> None:
    for _ in range(2):
        machine.run("systemctl", "start", "mnt-store.mount")
        assert motto(machine, "/mnt/store", member) == "be lazy\n"
        machine.run("systemctl", "stop", "mnt-store.mount")
        assert machine.mounts() == []


def test_a_line_of_fstab_mounts_and_unmounts(machine: Machine, member: Member) -> None:
    options = f"closure={member.path.path},cache-dir=/var/cache/fstab,_netdev,nofail,noauto,x-systemd.mount-timeout=60"
    machine.write("/etc/fstab", f"file:///srv/cache /mnt/fstab narfs {options} 0 0\n")
    machine.path("/mnt/fstab").mkdir(parents=True, exist_ok=True)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "mnt-fstab.mount")
    assert machine.run("ls", "/mnt/fstab") == member.path.base_name
    machine.run("systemctl", "stop", "mnt-fstab.mount")
    machine.run("mount", "/mnt/fstab")
    assert machine.run("findmnt", "--noheadings", "--output=SOURCE", "/mnt/fstab") == "file:///srv/cache"
    assert motto(machine, "/mnt/fstab", member) == "be lazy\n"
    machine.run("umount", "/mnt/fstab")
    machine.write("/etc/fstab", machine.path("/etc/fstab").read_text().replace("noauto,", ""))
    for _ in range(2):  # the second finds it mounted
        machine.run("mount", "--all")
    assert machine.mounts() == ["/mnt/fstab"]
    machine.run("umount", "/mnt/fstab")


@pytest.mark.skipif(not Path("/dev/autofs").exists(), reason="needs /dev/autofs: a kernel with autofs")
def test_an_automount_of_fstab_mounts_at_the_first_look_and_takes_it_off_after_the_last(
    machine: Machine, member: Member
) -> None:
    options = "cache-dir=/var/cache/auto,_netdev,nofail,x-systemd.automount,x-systemd.idle-timeout=1"
    machine.write("/etc/fstab", f"file:///srv/cache /mnt/auto narfs closure={member.path.path},{options} 0 0\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "mnt-auto.automount")
    try:
        assert machine.mounts() == []
        assert motto(machine, "/mnt/auto", member) == "be lazy\n"
        assert machine.mounts() == ["/mnt/auto"]
        wait_for(lambda: machine.mounts() == [])
        assert motto(machine, "/mnt/auto", member) == "be lazy\n"
    finally:
        machine.run("systemctl", "stop", "mnt-auto.automount", "mnt-auto.mount")
        machine.path("/etc/fstab").unlink()


def test_a_machine_leaves_nothing_behind(directory: Path) -> None:
    place = directory / "short"
    place.mkdir()
    with Machine(place, narfs=False) as machine:
        group = Path(f"/proc/{machine.pid}/cgroup").read_text().split("narfs-test-")[1].split("/")[0]
        assert str(place) not in Path("/proc/self/mountinfo").read_text().replace(f"{place}/root.cgroups", "")
    assert not Path(f"/proc/{machine.pid}").exists()
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    assert list(place.iterdir()) == []
    assert not subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", f"narfs-test-{group}*"], capture_output=True, check=False
    ).stdout
