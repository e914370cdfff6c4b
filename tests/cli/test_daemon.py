"""``narfs daemon`` and ``narfs view`` as people and build workers use them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.program import PATIENCE_S, finish, kind_of, needs_fuse
from tests.mount.kernel import is_mount, unmount
from tests.support.daemons import managing
from tests.support.lakes import Lake, Recipe
from tests.support.trees import File, read_from_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.program import Process, Program

pytestmark = [pytest.mark.mount, needs_fuse]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to bind a view elsewhere")


@contextmanager
def daemon(program: Program, *options: str) -> Iterator[Process]:
    """Run a daemon with the program's lake until the block ends; it must end well."""
    with managing() as manager:
        process = program.start("daemon", *program.stores, *options, environ=manager.environ)
        try:
            manager.wait_ready(process)
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.communicate()
            for mount in mounts_below(program.home):
                unmount(mount)


def wait_for(met: Any, process: Process | None = None) -> None:
    for _ in range(PATIENCE_S * 20):
        if met():
            return
        assert process is None or process.poll() is None, "the daemon ended"
        select.select([], [], [], 0.05)
    raise AssertionError("it did not come")


def mounts_below(home: Path) -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="latin-1").splitlines()
    places = [line.split()[4] for line in lines]
    return [Path(place) for place in reversed(places) if place.startswith(f"{home}/")]


def names(place: Path) -> list[str]:
    return [each.name for each in place.iterdir()]


def create(program: Program, name: str, *options: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(program.output("view", "create", name, *options, "--json"))
    return told


def at(program: Program, name: str) -> Path:
    place = program.home / f"at-{name}"
    place.mkdir()
    return place


def test_a_view_is_made_listed_read_reported_and_removed(program: Program) -> None:
    with daemon(program):
        told = create(program, "one", "--closure", program.tool.path.path)
        shown = Path(told["directory"])
        assert sorted(names(shown)) == sorted(each.path.base_name for each in (program.library, program.tool))
        assert (shown / program.library.path.base_name / "motto").read_bytes() == b"be lazy\n"
        assert program.output("view", "list").decode().split("\t")[:3] == ["one", "2", "tree"]
        report = json.loads(program.output("view", "remove", "one", "--json"))
        assert (report["read_paths"], report["unread_paths"]) == (1, 1)
        assert (report["opened_files"], report["read_bytes"]) == (1, 8)
        assert program.output("view", "list") == b""
        assert not shown.exists()


def test_a_report_says_what_was_read_and_is_kept_when_the_view_goes(program: Program) -> None:
    files = program.home / "report.html", program.home / "report.json"
    with daemon(program):
        shown = Path(create(program, "one", "--closure", program.tool.path.path)["directory"])
        (shown / program.library.path.base_name / "motto").read_bytes()
        code, lines, said = program.run("view", "report", "one")
        assert code == 0
        assert lines.splitlines()[1].split()[0] == b"8"
        assert lines.splitlines()[-1].endswith(program.tool.path.path.encode())
        assert said.startswith("1 file, 8 B of 1 path read; 1 path never read (")
        report = json.loads(program.output("view", "report", "one", "--json", "--html", str(files[0])))
        fetched = {each["path"]: each["fetched_bytes"] for each in report["paths"]}
        assert fetched[program.library.path.path] >= program.lake.blob_file(program.library).stat().st_size
        assert "<svg" in files[0].read_text()
        assert program.run("view", "remove", "one", "--report", str(program.home / "none" / "x"))[0] == 2
        both = (word for file in files for word in ("--report", str(file)))
        assert program.output("view", "remove", "one", *both) == b""
        assert "<b>1 path</b> of 2 never read" in files[0].read_text()
        kept = json.loads(files[1].read_text())
        assert (kept["name"], kept["opened_files"], kept["distinct_bytes"]) == ("one", 1, 8)
        assert program.run("view", "report", "one")[0] == 1


@needs_root
def test_a_report_is_asked_for_by_place_too(program: Program) -> None:
    place = at(program, "one")
    with daemon(program):
        create(program, "one", "--closure", program.tool.path.path, "--at", str(place))
        (place / program.library.path.base_name / "motto").read_bytes()
        report = json.loads(program.output("view", "report", str(place), "--json"))
        assert (report["name"], report["read_paths"]) == ("one", 1)
        code, _, said = program.run("view", "report", str(program.home))
        assert (code, said.count("\n"), "no narfs of yours is mounted there" in said) == (1, 1, True)


@needs_root
def test_a_view_is_shown_where_it_is_wanted_and_nowhere_else_after_its_end(program: Program) -> None:
    place = at(program, "one")
    with daemon(program):
        assert create(program, "one", "--path", program.library.path.path, "--at", str(place))["directory"] == str(
            place
        )
        assert names(place) == [program.library.path.base_name]
        program.output("view", "remove", "one")
        assert not is_mount(place)
        assert names(place) == []


@needs_root
@pytest.mark.parametrize("frontend", ["tree", "erofs"])
def test_the_place_of_a_view_is_neither_unmounted_nor_taken_and_it_is_said_whose_it_is(
    program: Program, by_erofs: str, frontend: str
) -> None:
    place, path = at(program, "one"), program.library.path.path
    with daemon(program, "--frontend", by_erofs):
        create(program, "one", "--path", path, "--at", str(place), "--frontend", frontend)
        for command in (
            ["umount", str(place)],
            ["mount", *program.stores, "--cache-dir", str(program.home / "other"), str(place)],
            ["view", "create", "two", "--path", path, "--at", str(place)],
        ):
            code, _, said = program.run(*command)
            assert (code, "narfs view remove one" in said) == (2, True), said
        assert (program.at(place, program.library) / "motto").read_bytes() == b"be lazy\n"
        program.output("view", "remove", "one")


@needs_root
@pytest.mark.parametrize("frontend", ["tree", "erofs"])
def test_what_a_killed_daemon_left_at_the_place_of_a_view_is_unmounted(
    program: Program, by_erofs: str, frontend: str
) -> None:
    place = at(program, "one")
    with daemon(program, "--frontend", by_erofs) as process:
        create(program, "one", "--path", program.library.path.path, "--at", str(place), "--frontend", frontend)
        process.kill()
        process.wait()
        program.output("umount", str(place))
        assert not is_mount(place)


@needs_root
def test_a_place_is_found_as_the_kernel_would_find_it(program: Program) -> None:
    (program.home / "far/away").mkdir(parents=True)
    place = program.home / "far/one"
    place.mkdir()
    (program.home / "link").symlink_to(program.home / "far/away")
    crooked = f"{program.home}/link/../one"
    with daemon(program):
        told = create(program, "one", "--path", program.library.path.path, "--at", crooked)
        assert told["directory"] == str(place)
        program.output("view", "remove", "one")
    program.output("mount", *program.stores, crooked)
    assert is_mount(place)
    program.output("umount", crooked)
    assert not is_mount(place)


@needs_root
def test_a_view_in_use_is_not_removed_but_by_force(program: Program) -> None:
    place = at(program, "one")
    with daemon(program):
        create(program, "one", "--path", program.library.path.path, "--at", str(place))
        with (program.at(place, program.library) / "motto").open("rb", buffering=0) as file:
            code, _, said = program.run("view", "remove", "one")
            assert code == 2
            assert "in use" in said
            assert file.read(2) == b"be"
            program.output("view", "remove", "one", "--lazy")
            assert not is_mount(place)
        assert program.output("view", "list") == b""


@needs_root
@pytest.mark.parametrize("frontend", ["tree", "erofs"])
def test_of_views_wanted_at_one_place_at_once_one_is_made(program: Program, by_erofs: str, frontend: str) -> None:
    place = at(program, "one")
    link = program.home / "link"
    link.symlink_to(place)
    said = {"paths": [program.library.path.path], "settings": {"frontend": frontend}}
    with daemon(program, "--frontend", by_erofs):
        asked = [
            said_to_daemon(program, "view-create", {**said, "name": f"v{number}", "at": str(where)})
            for number, where in enumerate([place, link] * 3)
        ]
        assert sorted("answer" in answer() for answer in asked) == [False] * 5 + [True]
        assert mounts_below(place.parent).count(place) == 1


@needs_root
def test_a_view_that_is_removed_twice_at_once_is_unmounted_once(program: Program) -> None:
    place = at(program, "one")
    subprocess.run(["mount", "-t", "tmpfs", "narfs-test", place], check=True)
    with daemon(program):
        for _ in range(5):
            create(program, "one", "--path", program.library.path.path, "--at", str(place))
            asked = [said_to_daemon(program, "view-remove", {"name": "one"}) for _ in range(4)]
            assert sorted("answer" in answer() for answer in asked) == [False] * 3 + [True]
            assert kind_of(place) == "tmpfs"
    assert not is_mount(place)


@needs_root
@pytest.mark.parametrize("frontend", ["tree", "erofs"])
def test_what_is_at_the_place_of_a_view_that_somebody_unmounted_stays(
    program: Program, by_erofs: str, frontend: str
) -> None:
    place = at(program, "one")
    subprocess.run(["mount", "-t", "tmpfs", "narfs-test", place], check=True)
    with daemon(program, "--frontend", by_erofs):
        create(program, "one", "--path", program.library.path.path, "--at", str(place), "--frontend", frontend)
        assert kind_of(place) == {"tree": "fuse.narfs"}.get(frontend, frontend)
        unmount(place)
        program.output("view", "remove", "one")
        assert kind_of(place) == "tmpfs"


def test_an_owner_that_is_no_process_and_text_that_is_none_are_said(program: Program) -> None:
    said = {"name": "one", "paths": [program.library.path.path]}
    with daemon(program), ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 0)
        # Not the largest: numbers begin anew one day.
        thread = next(int(task) for task in os.listdir("/proc/self/task") if int(task) != os.getpid())  # noqa: PTH208
        for bad in ({"owner_pid": 2**40}, {"owner_pid": thread}, {"at": "/\ud800"}):
            error = said_to_daemon(program, "view-create", {**said, **bad})()["error"]
            assert "a bug" not in error


def said_to_daemon(program: Program, operation: str, arguments: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Say it now; hear the answer later."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    connection.connect(str(program.runtime / "control.sock"))
    connection.sendall(json.dumps({"version": 1, "operation": operation, "arguments": arguments}).encode() + b"\n")

    def hear() -> dict[str, Any]:
        with connection, connection.makefile("rb") as lines:
            told: dict[str, Any] = json.loads(lines.readline())
            return told

    return hear


def test_views_see_each_their_own_paths(program: Program) -> None:
    with daemon(program):
        one = create(program, "one", "--path", program.library.path.path)
        two = create(program, "two", "--path", program.tool.path.path)
        assert names(Path(one["directory"])) == [program.library.path.base_name]
        assert names(Path(two["directory"])) == [program.tool.path.base_name]
        assert not Path(one["directory"], program.tool.path.base_name).exists()


def test_an_open_view_shows_whatever_the_stores_have(program: Program) -> None:
    with daemon(program):
        shown = Path(create(program, "all")["directory"])
        assert (shown / program.library.path.base_name / "motto").read_bytes() == b"be lazy\n"
        assert not (shown / "0000000000000000000000000000000a-nothing").exists()


def test_what_cannot_be_made_is_said_in_one_line_and_leaves_nothing(program: Program) -> None:
    missing = "/nix/store/0000000000000000000000000000000a-nothing"
    with daemon(program):
        for options, code, words in (
            (["one", "--path", missing], 1, "no store has"),
            (["a/b"], 2, "view name"),
            (["one", "--path", program.library.path.path, "--at", str(program.home / "none")], 2, "no such directory"),
            (["one", "--store", "ftp://x"], 2, "ftp"),
        ):
            found, _, said = program.run("view", "create", *options)
            assert (found, words in said, said.count("\n")) == (code, True, 1), said
        assert program.output("view", "list") == b""
        create(program, "one", "--path", program.library.path.path)
        assert program.run("view", "create", "one")[0] == 2
        assert program.run("view", "remove", "two")[0] == 1


def test_a_view_brings_stores_and_keys_of_its_own(program: Program) -> None:
    signed = program.lake.add("signed", {b"file": File(b"x")}, Recipe(content_addressed=False)).path.base_name
    with daemon(program, "--trusted-public-keys", "other-1:" + "A" * 43 + "="):
        with pytest.raises(PermissionError):
            Path(create(program, "strange")["directory"], signed).stat()
        own = create(program, "own", "--trusted-public-keys", program.lake.trusted_public_keys)
        assert Path(own["directory"], signed, "file").read_bytes() == b"x"


def test_a_view_gets_nothing_of_what_others_fetched_but_what_its_own_stores_have(program: Program) -> None:
    liar = Lake(program.home / "liar")
    liar.put(program.library.narinfo)
    with daemon(program):
        shown = program.at(Path(create(program, "all")["directory"]), program.library)
        assert (shown / "motto").read_bytes() == b"be lazy\n"
        lied = program.at(Path(create(program, "liar", "--store", liar.url)["directory"]), program.library)
        with pytest.raises(OSError, match="Input/output error"):
            lied.stat()
        with pytest.raises(OSError, match="Input/output error"):
            (lied / "motto").read_bytes()


def test_a_view_is_accounted_what_it_was_first_to_fetch_and_ends_at_its_quota(program: Program) -> None:
    with daemon(program, "--bandwidth", "100M"):
        first = Path(create(program, "first", "--bandwidth-share", "2")["directory"])
        assert (program.at(first, program.library) / "motto").read_bytes() == b"be lazy\n"
        poor = Path(create(program, "poor", "--fetch-bytes", "1")["directory"])
        assert (program.at(poor, program.library) / "motto").read_bytes() == b"be lazy\n"
        with pytest.raises(OSError, match="quota exceeded"):
            (program.at(poor, program.tool) / "bin" / "tool").read_bytes()
        assert (program.at(first, program.tool) / "bin" / "alias").read_bytes().startswith(b"#!")
        told = {one["name"]: one for one in json.loads(program.output("view", "list", "--json"))}
        assert told["first"]["fetched_bytes"] > 500
        assert told["poor"]["fetched_bytes"] <= 1000
        report = json.loads(program.output("view", "report", "first", "--json"))
        assert report["fetched_bytes"] == told["first"]["fetched_bytes"]
        assert report["fetched_requests"] == told["first"]["fetched_requests"] > 3
        assert b"poor: " in program.output("status")


def test_what_is_told_of_a_view_has_no_credentials(program: Program) -> None:
    with daemon(program):
        create(program, "own", "--store", "http://me:secret@127.0.0.1:1/?optional=1")
        for told in (("view", "list", "--json"), ("status", "--json"), ("status",)):
            assert b"127.0.0.1:1" in (out := program.output(*told))
            assert b"secret" not in out


def test_a_view_ends_with_its_owner(program: Program) -> None:
    with daemon(program), subprocess.Popen(["sleep", "60"]) as owner:
        create(program, "one", "--path", program.library.path.path, "--owner-pid", str(owner.pid))
        assert program.output("view", "list")
        owner.kill()
        owner.wait()
        wait_for(lambda: program.ask("view-list") == [])


def test_a_view_ends_unless_its_lease_is_renewed(program: Program) -> None:
    with daemon(program):
        create(program, "one", "--path", program.library.path.path, "--lease", "3")
        program.output("view", "renew", "one")
        for _ in range(7):
            select.select([], [], [], 0.5)
            program.ask("view-renew", name="one")
        wait_for(lambda: program.ask("view-list") == [])


@needs_root
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_views_come_back_when_the_daemon_is_started_again(program: Program, end: signal.Signals) -> None:
    place = at(program, "one")
    with daemon(program) as process:
        create(program, "one", "--path", program.library.path.path, "--at", str(place))
        create(program, "gone", "--path", program.library.path.path)
        program.output("view", "remove", "gone")
        process.send_signal(end)
        process.wait()
    with daemon(program):
        assert program.output("view", "list").decode().split("\t")[0] == "one"
        assert (program.at(place, program.library) / "motto").read_bytes() == b"be lazy\n"
    assert not is_mount(place)


class Slow(BaseHTTPRequestHandler):
    """A store that has nothing, and says so when it may."""

    asked = threading.Event()
    may_answer = threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        self.may_answer.wait(PATIENCE_S)
        self.send_error(404)


@needs_root
def test_who_asks_before_the_views_of_before_are_back_waits_and_takes_nobodys_place(program: Program) -> None:
    place = at(program, "one")
    with daemon(program):
        create(program, "one", "--path", program.library.path.path, "--at", str(place))
    record = program.home / "state_home/narfs/views/one.json"
    with ThreadPoolExecutor() as threads, ThreadingHTTPServer(("127.0.0.1", 0), Slow) as store:
        threads.submit(store.serve_forever)
        settings = {"store": [f"http://127.0.0.1:{store.server_port}"]}
        record.write_text(json.dumps(json.loads(record.read_text()) | {"settings": settings}))
        process = program.start("daemon", *program.stores)
        try:
            assert Slow.asked.wait(PATIENCE_S)
            two = ("view", "create", "two", "--path", program.tool.path.path, "--at", str(place))
            early = threads.submit(program.run, *two)
            time.sleep(1)
            assert not early.done()
            Slow.may_answer.set()
            assert "is the place of view one; narfs view remove one" in early.result()[2]
            (told,) = json.loads(program.output("view", "list", "--json"))
            assert (told["frontend"], told["directory"]) == ("none", str(place))
            program.output("view", "remove", "one")
            program.output(*two)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.communicate()
            store.shutdown()
    assert [file.name for file in record.parent.iterdir()] == ["two.json"]


def test_a_second_daemon_is_refused(program: Program) -> None:
    with daemon(program):
        code, _, said = program.run("daemon", *program.stores)
        assert code == 2
        assert "answers there already" in said


def test_a_daemon_whose_predecessor_is_there_and_does_not_answer_is_refused(program: Program) -> None:
    program.runtime.mkdir(parents=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(program.runtime / "control.sock"))
        mute.listen()
        process = program.start("daemon", *program.stores)
        connection, _ = mute.accept()
        connection.close()
        code, _, said = finish(process)
    assert code == 2
    assert "control.sock" in said


def test_what_a_daemon_cannot_begin_with_is_said_in_one_line(program: Program) -> None:
    views = program.home / "state_home/narfs/views"
    with daemon(program):
        pass
    (views / "odd.json").write_text("[]")
    with daemon(program):
        assert program.output("view", "list").startswith(b"odd\t0\tnone\t")
        program.output("view", "remove", "odd")
        assert program.output("view", "list") == b""
    far = str(program.home / ("x" * 100))
    code, _, said = finish(program.start("daemon", *program.stores, environ={"XDG_RUNTIME_DIR": far}))
    assert (code, said.count("\n")) == (1, 1), said
    assert "shorter XDG_RUNTIME_DIR" in said


def test_a_view_takes_no_configuration_file_that_would_not_count(program: Program) -> None:
    code, _, said = program.run("view", "create", "one", "--config", "/dev/null")
    assert code == 2
    assert "No such option" in said


def test_without_a_daemon_it_is_said_how_to_start_one(program: Program) -> None:
    code, _, said = program.run("view", "list")
    assert code == 1
    assert "narfs daemon" in said


def valid_paths(place: Path) -> bytes:
    """Ask a metadata socket, as Nix 2.4 would, for all that is valid; give the reply behind the greeting."""
    numbers = (0x6E697863, 1 << 8 | 32, 0, 0, 23)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
        client.sendall(b"".join(number.to_bytes(8, "little") for number in numbers))
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(4096), b""))[24:]


def test_each_view_answers_nix_at_a_socket_of_its_own(program: Program) -> None:
    library, tool = (str(member.path) for member in (program.library, program.tool))
    one, other = program.home / "one.sock", program.home / "other.sock"
    with daemon(program) as process:
        create(program, "one", "--path", library, "--nix-socket", "one.sock")
        create(program, "other", "--closure", tool, "--nix-socket", str(other))
        code, _, said = program.run("view", "create", "third", "--path", tool, "--nix-socket", str(other))
        assert (code, said) == (2, f"narfs: {other}: another process answers there\n")
        assert json.loads(program.output("view", "list", "--json"))[-1]["name"] == "other"
        assert library.encode() in valid_paths(one)
        assert tool.encode() not in valid_paths(one)
        assert tool.encode() in valid_paths(other)
        program.output("view", "remove", "other")
        wait_for(lambda: not other.exists(), process)
    assert not one.exists()
    with daemon(program):
        assert library.encode() in valid_paths(one)
        assert one.stat().st_mode & 0o777 == 0o600


@needs_root
def test_the_socket_of_a_view_that_everybody_sees_is_for_everybody(program: Program) -> None:
    with daemon(program):
        place = str(at(program, "seen"))
        create(program, "seen", "--path", str(program.library.path), "--at", place, "--nix-socket", "seen.sock")
        assert (program.home / "seen.sock").stat().st_mode & 0o777 == 0o666


def frontend_of(program: Program, name: str) -> list[str]:
    lines = program.output("view", "list").decode().splitlines()
    return [line.split("\t")[2] for line in lines if line.startswith(f"{name}\t")]


def test_a_view_is_shown_by_erofs(program: Program, by_erofs: str) -> None:
    place = at(program, "one")
    with daemon(program):
        told = create(program, "one", "--closure", program.tool.path.path, "--at", str(place), "--frontend", by_erofs)
        assert (told["frontend"], told["directory"], kind_of(place)) == ("erofs", str(place), "erofs")
        assert read_from_disk(place) == {
            b".links": {},
            program.tool.path.base_name.encode(): program.tool.tree,
            program.library.path.base_name.encode(): program.library.tree,
        }
        report = json.loads(program.output("view", "remove", "one", "--json"))
        assert (report["read_paths"], report["unread_paths"]) == (2, 0)
        assert not is_mount(place)
        assert not list((program.home / "state_home/narfs/images").iterdir())


def test_a_view_of_erofs_that_is_wanted_nowhere_has_a_place_of_its_own(program: Program, by_erofs: str) -> None:
    with daemon(program):
        shown = Path(create(program, "one", "--path", program.library.path.path, "--frontend", by_erofs)["directory"])
        assert (shown / program.library.path.base_name / "motto").read_bytes() == b"be lazy\n"
        assert kind_of(shown) == "erofs"
        with (shown / program.library.path.base_name / "motto").open("rb"):
            assert "in use" in program.run("view", "remove", "one")[2]
            program.output("view", "remove", "one", "--lazy")
        assert not shown.exists()


@pytest.mark.usefixtures("by_erofs")
def test_erofs_is_chosen_when_every_tree_is_known_and_the_reason_is_told(program: Program) -> None:
    with daemon(program):
        told = create(program, "before", "--path", program.library.path.path)
        assert told["frontend"] == "tree"
        assert (
            f"1 of 1 paths are neither sealed nor cached, {program.library.path.base_name}" in told["frontend_because"]
        )
        list(Path(told["directory"], program.library.path.base_name).iterdir())
        assert create(program, "after", "--path", program.library.path.path)["frontend"] == "erofs"
        assert create(program, "not", "--path", program.library.path.path, "--frontend", "tree")["frontend"] == "tree"
        assert create(program, "open")["frontend_because"].startswith("an open view has no image")
        assert [frontend_of(program, name) for name in ("before", "after", "not")] == [["tree"], ["erofs"], ["tree"]]


@pytest.mark.usefixtures("by_erofs")
def test_erofs_is_chosen_for_sealed_paths_nobody_has_read(program: Program) -> None:
    key = program.home / "key"
    key.write_text(program.lake.secret_key.to_text())
    program.output("seal", *program.stores, "--secret-key-file", str(key), "--closure", program.tool.path.path)
    with daemon(program, *program.index_keys):
        told = create(program, "one", "--closure", program.tool.path.path)
        assert told["frontend"] == "erofs"
        assert read_from_disk(Path(told["directory"], program.tool.path.base_name)) == program.tool.tree


def test_erofs_that_cannot_be_is_said_with_its_reason(program: Program, by_erofs: str) -> None:
    library = program.library.path.path
    with daemon(program):
        for options, reason in (
            (["--path", library, "--verify", "progressive"], "progressive"),
            ([], "open view"),
        ):
            code, _, said = program.run("view", "create", "one", *options, "--frontend", by_erofs)
            assert (code, reason in said) == (2, True), said
        assert program.output("view", "list") == b""


@pytest.mark.usefixtures("by_erofs")
def test_a_view_whose_image_cannot_be_mounted_is_shown_by_tree_unless_erofs_was_asked_for(program: Program) -> None:
    images, place = program.home / "state_home/narfs/images", at(program, "two")
    path = program.library.path.path
    with daemon(program):
        Path(create(program, "one", "--path", path)["directory"], program.library.path.base_name, "motto").read_bytes()
        assert create(program, "again", "--path", path)["frontend"] == "erofs"
        subprocess.run(["mount", "-t", "tmpfs", "none", images], check=True)  # from which no image can be mounted
        try:
            told = create(program, "two", "--path", path, "--at", str(place))
            assert (told["frontend"], "does not mount" in told["frontend_because"]) == ("tree", True)
            assert names(place) == [program.library.path.base_name]
            code, _, said = program.run("view", "create", "three", "--path", path, "--frontend", "erofs")
            assert (code, said.count("\n")) == (1, 1), said
        finally:
            subprocess.run(["umount", images], check=True)


def test_a_damaged_path_fails_a_view_of_erofs_by_name(program: Program, by_erofs: str) -> None:
    blob = program.lake.blob_file(program.library)
    blob.write_bytes(blob.read_bytes()[:-20] + b"x" * 20)
    options = ["--closure", program.tool.path.path, "--frontend", by_erofs]
    with daemon(program):
        code, _, said = program.run("view", "create", "one", *options)
        assert (code, said.count("\n"), program.library.path.base_name in said) == (1, 1, True), said
        assert program.output("view", "list") == b""
        assert create(program, "one", *options[:2])["frontend"] == "tree"


def test_two_views_of_erofs_share_what_is_fetched_and_each_has_its_own(program: Program, by_erofs: str) -> None:
    with daemon(program):
        one = create(program, "one", "--path", program.library.path.path, "--frontend", by_erofs)
        two = create(program, "two", "--closure", program.tool.path.path, "--frontend", by_erofs)
        numbers = set()
        for told in (one, two):
            motto = Path(told["directory"], program.library.path.base_name, "motto")
            assert motto.read_bytes() == b"be lazy\n"
            numbers.add(motto.stat().st_ino)
        assert len(numbers) == 1
        assert not Path(one["directory"], program.tool.path.base_name).exists()
        program.output("view", "remove", "one")
        assert read_from_disk(Path(two["directory"], program.tool.path.base_name)) == program.tool.tree


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_views_of_erofs_come_back_when_the_daemon_is_started_again(
    program: Program, by_erofs: str, end: signal.Signals
) -> None:
    place = at(program, "one")
    with daemon(program) as process:
        create(program, "one", "--path", program.library.path.path, "--at", str(place), "--frontend", by_erofs)
        own = create(program, "own", "--path", program.library.path.path, "--frontend", by_erofs)["directory"]
        process.send_signal(end)
        process.wait()
    with daemon(program):
        assert [frontend_of(program, name) for name in ("one", "own")] == [["erofs"], ["erofs"]]
        for shown in (place, Path(own)):
            assert (program.at(shown, program.library) / "motto").read_bytes() == b"be lazy\n"
    assert not is_mount(place)
    assert not is_mount(Path(own))


def test_slabs_that_somebody_unmounted_serve_on_and_others_take_new_views(program: Program, by_erofs: str) -> None:
    with daemon(program):
        one = create(program, "one", "--path", program.library.path.path, "--frontend", by_erofs)["directory"]
        unmount(program.home / "runtime_dir/narfs/private/slabs")
        two = create(program, "two", "--path", program.tool.path.path, "--frontend", by_erofs)["directory"]
        assert (program.at(Path(one), program.library) / "motto").read_bytes() == b"be lazy\n"
        assert read_from_disk(Path(two, program.tool.path.base_name)) == program.tool.tree
        program.output("view", "remove", "one")
        program.output("view", "remove", "two")
    assert mounts_below(program.home) == []


def test_an_overlay_lies_on_a_view_of_erofs(program: Program, by_erofs: str) -> None:
    place = at(program, "one")
    for name in ("upper", "work", "merged"):
        (program.home / name).mkdir()
    script = """
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/merged"
        echo new > "$2/merged/new"; cat "$2/merged/new" "$2/merged/$3/motto"; rm -r "$2/merged/$3"; ls "$2/merged"
    """
    with daemon(program):
        create(program, "one", "--path", program.library.path.path, "--at", str(place), "--frontend", by_erofs)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"]
        arguments = [str(place), str(program.home), program.library.path.base_name]
        told = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert told.stdout.split("\n") == ["new", "be lazy", "new", ""], told.stderr
