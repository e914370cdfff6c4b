from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from narfs.daemon import control, linux
from narfs.daemon.asking import all_status
from narfs.daemon.unmounting import unmount
from narfs.errors import TooSlow
from tests.cli.program import finish, kind_of, needs_fuse
from tests.support.trees import read_from_disk

if TYPE_CHECKING:
    from tests.cli.program import Program

pytestmark = [pytest.mark.mount, needs_fuse]


def _status(program: Program, place: Path) -> dict[str, Any]:
    (told,) = json.loads(program.output("status", "--json", str(place)))
    assert isinstance(told, dict)
    return told


def test_mount_returns_when_the_mount_is_usable_and_umount_when_it_is_gone(program: Program) -> None:
    with program.mounted() as place:
        assert (program.at(place, program.library) / "motto").read_bytes() == b"be lazy\n"
        pid = _status(program, place)["mount"]["pid"]
        assert program.output("umount", str(place)) == b""
        assert not os.path.ismount(place)
        assert not Path(f"/proc/{pid}/fd").exists() or not list(Path(f"/proc/{pid}/fd").iterdir())
        assert list(program.runtime.iterdir()) == []


def test_a_mount_reports_what_was_read_of_it(program: Program) -> None:
    with program.mounted("--closure", program.tool.path.path) as place:
        (program.at(place, program.library) / "motto").read_bytes()
        told = json.loads(program.output("view", "report", str(place), "--json"))
        assert told["name"] == str(place)
        assert (told["read_paths"], told["unread_paths"], told["distinct_bytes"]) == (1, 1, 8)
        assert told["fetched_bytes"] == _status(program, place)["summary"]["fetched_bytes"]


def test_status_names_what_was_fetched_and_served(program: Program) -> None:
    with program.mounted() as place:
        (program.at(place, program.library) / "motto").read_bytes()
        told = _status(program, place)
        assert told["mount"]["closed"] is False
        assert (told["mount"]["paths"], told["mount"]["verified_paths"]) == (1, 1)
        summary = told["summary"]
        assert (summary["served_bytes"], summary["served_reads"], summary["errors"]) == (8, 1, 0)
        assert summary["fetched_requests"] > 0
        assert summary["fetched_bytes"] >= program.lake.blob_file(program.library).stat().st_size
        assert told["lakes"]["lakes"][program.lake.url]["requests_total"] == summary["fetched_requests"]
        for_people = program.output("status").decode()
        assert str(place) in for_people
        assert "8 B in 1 read\n" in for_people
        assert not any(line.endswith(" ") for line in for_people.splitlines())
    assert program.output("status") == b"nothing is mounted\n"
    assert program.run("status", str(place))[0] == 1


def test_a_closed_view_has_exactly_what_was_named(program: Program) -> None:
    tool = program.tool.path.base_name
    both = sorted([tool, program.library.path.base_name])
    (program.home / "allowed").write_text(f"# inputs\n{program.library.path.path}\n")
    (program.home / "result").symlink_to(program.tool.path.path)
    for arguments, given, expected in (
        (["--path", program.tool.path.hash_part], b"", [tool]),
        (["--closure", "./result"], b"", both),
        (["--allow", "allowed", "--paths-from", "-"], program.tool.path.path.encode(), both),
        (["--paths-from", "-"], b"", []),
    ):
        with program.mounted(*arguments, given=given) as place:
            assert sorted(os.listdir(place)) == expected, arguments  # noqa: PTH208
            assert not (place / f"{'0' * 32}-absent").exists()


def test_missing_members_fail_the_mount_and_are_listed(program: Program) -> None:
    program.lake.narinfo_file(program.library.path).unlink()
    place = program.home / "mnt"
    place.mkdir()
    code, _, said = program.run("mount", *program.stores, "--closure", program.tool.path.path, str(place))
    assert code == 1
    assert program.library.path.base_name in said
    assert said.count("\n") == 1
    assert not os.path.ismount(place)
    with program.mounted("--closure", program.tool.path.path, "--allow-missing") as mounted:
        assert os.listdir(mounted) == [program.tool.path.base_name]  # noqa: PTH208


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--cache-size", "lots"], 2, "cache-size"),
        (["--path", "nonsense"], 2, "nonsense"),
        (["-o", "no_such_option"], 1, "unknown option(s): `-o no_such_option'"),
    ],
)
def test_the_child_s_failure_is_the_parent_s(program: Program, arguments: list[str], code: int, complaint: str) -> None:
    (program.home / "mnt").mkdir()
    found, out, said = program.run("mount", *program.stores, *arguments, str(program.home / "mnt"))
    assert (found, out) == (code, b"")
    assert complaint in said
    assert "Traceback" not in said


def test_a_mountpoint_must_be_there(program: Program) -> None:
    code, _, said = program.run("mount", *program.stores, str(program.home / "absent"))
    assert code == 2
    assert "no such directory" in said


def test_a_store_for_another_directory_is_refused(program: Program) -> None:
    (program.lake.directory / "nix-cache-info").write_text("StoreDir: /gnu/store\n")
    (program.home / "mnt").mkdir()
    code, _, said = program.run("mount", *program.stores, str(program.home / "mnt"))
    assert code == 2
    assert "/gnu/store" in said


def test_a_store_that_does_not_answer_is_told_of_when_mounting(program: Program) -> None:
    nowhere = f"file://{program.home}/nowhere"
    with program.mounted("--store", nowhere, warned=f"{nowhere}: cannot be used as a binary cache"):
        pass


def test_a_daemon_that_hangs_is_named_and_can_be_got_rid_of(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = control.ask.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "deadline_s", 0.1)
    with program.mounted() as place:
        pid = _status(program, place)["mount"]["pid"]
        runtime = program.runtime
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(TooSlow, match=f"kill -KILL {pid}"):
                unmount(place, runtime)
            assert all_status(runtime) == []
        finally:
            os.kill(pid, signal.SIGKILL)
        program.output("umount", str(place))


def test_one_cache_directory_has_one_mount_and_the_second_names_its_holder(program: Program) -> None:
    other = program.home / "other"
    other.mkdir()
    with program.mounted() as place:
        pid = _status(program, place)["mount"]["pid"]
        code, _, said = program.run("mount", *program.stores, str(other))
        assert code == 1
        assert str(pid) in said
        program.output("mount", *program.stores, "--cache-dir", str(program.home / "second"), str(other))
        assert len(json.loads(program.output("status", "--json"))) == 2
        program.output("umount", str(other))


def test_a_second_mount_in_the_same_place_hears_of_that_and_not_of_the_cache(program: Program) -> None:
    with program.mounted() as place:
        code, _, said = program.run("mount", *program.stores, str(place))
        assert (code, said) == (2, f"narfs: {place}: narfs is mounted there already; narfs umount {place}\n")


def test_a_daemon_may_open_as_many_files_as_the_system_allows(program: Program) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        with program.mounted() as place:
            assert resource.prlimit(_status(program, place)["mount"]["pid"], resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_log_of_a_daemon_says_when_it_came_and_went(program: Program) -> None:
    with program.mounted() as place:
        pass
    (log,) = (program.home / "state_home/narfs").iterdir()
    came, went = log.read_text().splitlines()
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT[\d:]+[+-]\d{{4}} INFO {place}: mounted", came)
    assert went.endswith(f"{place}: unmounted")


def test_an_unusable_cache_directory_is_done_without(program: Program) -> None:
    (program.home / "cache").write_text("not a directory")
    with program.mounted("--cache-dir", str(program.home / "cache"), warned="everything is fetched anew") as place:
        assert (program.at(place, program.library) / "motto").read_bytes() == b"be lazy\n"
        assert _status(program, place)["cache"] is None
    (log,) = (program.home / "state_home/narfs").iterdir()
    assert log.read_text().count("fetched anew") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_foreground_mount_tells_systemd_and_unmounts_on_a_signal(program: Program, number: signal.Signals) -> None:
    place = program.home / "mnt"
    place.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(program.home / "notify"))
        manager.settimeout(30)
        process = program.start(
            "-v", "mount", "-f", *program.stores, str(place), environ={"NOTIFY_SOCKET": str(manager.getsockname())}
        )
        assert manager.recv(100) == b"READY=1"
    assert (program.at(place, program.library) / "motto").read_bytes() == b"be lazy\n"
    process.send_signal(number)
    code, _, said = finish(process)
    assert code == 0
    assert "unmounted" in said
    assert not os.path.ismount(place)


def test_a_killed_daemon_s_mount_is_cleared_by_umount_and_by_the_next_mount(program: Program) -> None:
    for commands in (["umount"], []):
        with program.mounted() as place:
            pid = _status(program, place)["mount"]["pid"]
            process = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            select.select([process], [], [])
            os.close(process)
            for command in commands:
                program.output(command, str(place))
            with program.mounted() as again:
                assert (program.at(again, program.library) / "motto").read_bytes() == b"be lazy\n"


def test_umount_of_what_is_not_ours_or_nothing_says_so(program: Program) -> None:
    code, _, said = program.run("umount", str(program.home))
    assert code == 1
    assert "nothing is mounted" in said
    code, _, said = program.run("umount", "/proc")
    assert code == 2
    assert "kind proc" in said


def test_a_nix_socket_that_cannot_be_made_is_said_by_the_command(program: Program) -> None:
    (program.home / "mnt").mkdir()
    (program.home / "taken").touch()
    code, out, said = program.run("mount", *program.stores, "--nix-socket", "taken", str(program.home / "mnt"))
    assert (code, out) == (2, b"")
    assert said == f"narfs: {program.home}/taken: is there, and is not a socket\n"


def test_a_nix_socket_comes_and_goes_with_the_mount(program: Program) -> None:
    place = program.home / "nix.sock"
    with program.mounted("--nix-socket", "nix.sock"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
        client.sendall(b"cxin".ljust(8, b"\0"))
        assert client.recv(8) == b"oixd".ljust(8, b"\0")
    assert not place.exists()


def test_erofs_shows_a_closure_and_nothing_is_left_of_it(program: Program, by_erofs: str) -> None:
    with program.mounted("--closure", program.tool.path.path, "--frontend", by_erofs) as place:
        assert kind_of(place) == "erofs"
        assert read_from_disk(program.at(place, program.tool)) == program.tool.tree
        told = _status(program, place)
        assert (told["mount"]["frontend"], told["mount"]["paths"]) == ("erofs", 2)
        assert "frontend   erofs\n" in program.output("status").decode()
    assert list(program.runtime.iterdir()) == []
    assert not [line for line in mountinfo() if str(program.home) in line]


def test_erofs_that_is_unmounted_from_outside_or_killed_is_gone(program: Program, by_erofs: str) -> None:
    options = ("--closure", program.tool.path.path, "--frontend", by_erofs)
    with program.mounted(*options) as place:
        pid = _status(program, place)["mount"]["pid"]
        linux.unmount(str(place))
        wait_for_end(pid)
        assert program.output("status") == b"nothing is mounted\n"
    for clear in (True, False):  # by umount, then by the next mount in its place
        with program.mounted(*options) as place:
            pid = _status(program, place)["mount"]["pid"]
            os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)
            if clear:
                program.output("umount", str(place))
                assert not os.path.ismount(place)
            else:
                with program.mounted(*options):
                    assert (program.at(place, program.library) / "motto").read_bytes() == b"be lazy\n"
    assert not [line for line in mountinfo() if str(program.home) in line]


def test_erofs_that_is_unmounted_from_outside_leaves_what_was_at_its_place_before(
    program: Program, by_erofs: str
) -> None:
    place = program.home / "mnt"
    place.mkdir()
    linux.mount("before", str(place), kind="tmpfs")  # as systemd's autofs under a mount of fstab
    with program.mounted("--closure", program.tool.path.path, "--frontend", by_erofs):
        pid = _status(program, place)["mount"]["pid"]
        linux.unmount(str(place))
        wait_for_end(pid)
        assert kind_of(place) == "tmpfs"
        linux.unmount(str(place))


def test_erofs_of_what_it_cannot_show_is_refused(program: Program, by_erofs: str) -> None:
    place = program.home / "mnt"
    place.mkdir()
    for options, reason in (
        ([], "open view"),
        (["--closure", program.tool.path.path, "--verify", "progressive"], "progressive"),
        (["--closure", program.tool.path.path, "-o", "max_read=4096"], "max_read"),
    ):
        code, _, said = program.run("mount", *program.stores, *options, "--frontend", by_erofs, str(place))
        assert (code, reason in said) == (2, True), said
    assert not list(program.runtime.iterdir())
    assert not [line for line in mountinfo() if str(program.home) in line]


def mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text(encoding="latin-1").splitlines()


def wait_for_end(pid: int) -> None:
    """Wait for a process that is not a child of ours."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([process], [], [], 60)[0]
    os.close(process)
