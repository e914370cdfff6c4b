"""What a process of root's may do once it serves: mount and unmount, and look; its workers nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs.daemon.control import DAEMON_SOCKET
from narfs.privileges import Capability
from tests.cli.program import needs_fuse
from tests.cli.test_daemon import at, create, daemon, names, needs_root

if TYPE_CHECKING:
    from tests.cli.program import Program

pytestmark = [pytest.mark.mount, needs_fuse, needs_root]

KEPT = 1 << Capability.SYS_ADMIN | 1 << Capability.DAC_READ_SEARCH


def may(pid: int) -> dict[str, int]:
    """What all threads of a process may do: capabilities, and whether what it starts can have more."""
    found: dict[str, set[int]] = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            name, _, value = line.partition(":\t")
            if name.startswith("Cap") or name == "NoNewPrivs":
                found.setdefault(name, set()).add(int(value, 16))
    assert all(len(values) == 1 for values in found.values()), found
    return {name: values.pop() for name, values in found.items()}


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in lists for child in each.read_text().split()]


def assert_little(pid: int) -> None:
    told = may(pid)
    assert told["CapPrm"] == told["CapEff"] == KEPT & int(may(os.getpid())["CapPrm"])
    assert (told["CapInh"], told["CapAmb"], told["NoNewPrivs"]) == (0, 0, 1)
    workers = children(pid)
    assert workers
    for worker in workers:
        told = may(worker)
        assert (told["CapPrm"], told["CapEff"], told["CapAmb"], told["NoNewPrivs"]) == (0, 0, 0, 1)


def test_a_mount_of_root_s_keeps_what_unmounting_takes(program: Program) -> None:
    with program.mounted() as place:
        assert (place / program.tool.path.base_name / "bin/tool").read_bytes()
        (told,) = json.loads(program.output("status", "--json"))
        assert_little(told["mount"]["pid"])
    assert not place.is_mount()


def test_so_does_a_daemon_which_still_makes_and_removes_views(program: Program) -> None:
    with daemon(program) as process:
        place = at(program, "one")
        create(program, "one", "--closure", program.tool.path.path, "--at", str(place))
        assert names(place)
        assert (place / program.tool.path.base_name / "bin/tool").read_bytes()
        assert_little(process.pid)
        program.output("view", "remove", "one")
        assert not place.is_mount()


def test_a_mount_below_a_directory_of_somebody_else_s_is_made_and_taken_off(program: Program) -> None:
    theirs = program.home / "theirs"
    place = theirs / "mnt"
    place.mkdir(parents=True)
    for each in (place, theirs):
        os.chown(each, 1234, 1234)
        each.chmod(0o700)
    program.output("mount", *program.stores, str(place))
    assert names(place) == []
    program.output("umount", str(place))
    assert not place.is_mount()


def test_its_socket_can_belong_to_a_group(program: Program) -> None:
    with daemon(program, "--group", "daemon"):
        (socket,) = program.home.rglob(DAEMON_SOCKET)
        assert socket.group() == "daemon"
