"""Overlays that narfs makes for Nix, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.nix.newer import each_nix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nix.lakes import Lakes
    from tests.nix.world import World


@pytest.fixture
def closed(lakes: Lakes, machine: World) -> Iterator[World]:
    with machine.mounted(f"file://{lakes.lake('zstd')}", lakes.key, "--closure", lakes.all):
        yield machine


def create(machine: World, directory: str, *options: str) -> str:
    upper = ("--mount", machine.directory / "mnt", "--upper", "/nix/upper")
    return machine.run(machine.narfs, "overlay", "create", directory, *upper, *options)


def remove(machine: World, directory: str, *options: str) -> None:
    machine.run(machine.narfs, "overlay", "remove", directory, *options)


@each_nix
def test_a_store_below_another_root_is_registered_there(closed: World, lakes: Lakes) -> None:
    create(closed, "/build/nix/store", "--register")
    closed.run("nix-store", "--option", "store", "/build", "--verify", "--check-contents")
    assert closed.run("nix", "path-info", "--store", "/build", lakes.all).strip() == lakes.all
    with pytest.raises(AssertionError, match="is not valid"):
        closed.run("nix-store", "--query", "--hash", lakes.all)
    remove(closed, "/build/nix/store")


def test_the_registration_is_printed_unless_nix_is_told(closed: World, lakes: Lakes) -> None:
    printed = create(closed, "/nix/store")
    assert sorted(printed.splitlines()) == sorted(lakes.registration.read_text().splitlines())
    remove(closed, "/nix/store")
    assert create(closed, "/nix/store", "--no-registration") == ""
    remove(closed, "/nix/store")


def test_what_was_written_stays_when_the_overlay_goes(closed: World) -> None:
    create(closed, "/nix/store", "--no-registration")
    closed.shell("echo built > /nix/store/new")
    remove(closed, "/nix/store")
    assert closed.shell("ls -A /nix/store; ls /nix; cat /nix/upper/new").split() == ["store", "upper", "built"]


def test_an_overlay_in_use_is_removed_only_lazily(closed: World) -> None:
    create(closed, "/nix/store", "--no-registration")
    with pytest.raises(AssertionError, match="end what uses it, or give --lazy"):
        closed.shell(f"cd /nix/store && {closed.narfs} overlay remove /nix/store")
    remove(closed, "/nix/store", "--lazy")
    assert closed.shell("ls -A /nix/store") == ""


def test_an_open_view_is_refused(lakes: Lakes, machine: World) -> None:
    with (
        machine.mounted(f"file://{lakes.lake('zstd')}", lakes.key),
        pytest.raises(AssertionError, match="an open View"),
    ):
        create(machine, "/nix/store")


def test_a_view_that_is_not_closed_under_references_is_refused(lakes: Lakes, machine: World) -> None:
    lake = f"file://{lakes.lake('zstd')}"
    with (
        machine.mounted(lake, lakes.key, "--path", lakes.all),
        pytest.raises(AssertionError, match=r"-all refers to .* which is not among the paths"),
    ):
        create(machine, "/nix/store")
    assert "upper" not in machine.shell("ls /nix")


def test_a_place_that_cannot_be_an_overlay_is_left_as_it_was(closed: World) -> None:
    closed.shell("mkdir -p /full && touch /full/file")
    with pytest.raises(AssertionError, match="not empty"):
        create(closed, "/full")
    assert "upper" not in closed.shell("ls /nix")
    with pytest.raises(AssertionError, match="only a directory /nix/store of some root"):
        create(closed, "/other", "--register")
    create(closed, "/nix/store", "--no-registration")
    with pytest.raises(AssertionError, match="an overlay is mounted there already"):
        create(closed, "/nix/store")
    remove(closed, "/nix/store")
    for command in ("remove", "remount"):
        with pytest.raises(AssertionError, match="no overlay is mounted there"):
            closed.run(closed.narfs, "overlay", command, "/full")
    closed.shell("mkdir -p /nix/var/nix && touch /nix/var/nix/db")
    with pytest.raises(AssertionError, match="nix-store --load-db failed"):
        create(closed, "/nix/store", "--register")
    assert "overlay /nix/store" not in closed.shell("cat /proc/self/mounts")


def test_an_overlay_of_somebody_else_is_not_removed(machine: World) -> None:
    machine.shell(
        "mkdir -p /nix/{a,b,c,store} && mount -t overlay o -o lowerdir=/nix/a,upperdir=/nix/b,workdir=/nix/c /nix/store"
    )
    with pytest.raises(AssertionError, match="that narfs did not make"):
        remove(machine, "/nix/store")
    machine.run("umount", "/nix/store")


def test_a_remount_makes_an_overlay_in_use_look_at_its_layers_anew(machine: World) -> None:
    machine.shell("""
        mkdir -p /nix/{a,b,c,store}
        mount -t overlay overlay -o nosuid,noatime,lowerdir=/nix/a,upperdir=/nix/b,workdir=/nix/c /nix/store
        ! test -e /nix/store/late
        touch /nix/a/late
        ! test -e /nix/store/late
    """)
    before = machine.shell("cat /proc/self/mounts")
    machine.shell(f"cd /nix/store && exec 3</nix/store && {machine.narfs} overlay remount /nix/store && test -e late")
    assert machine.shell("cat /proc/self/mounts") == before
    machine.run("umount", "/nix/store")


@pytest.fixture(params=["tree", "erofs"])
def daemon(lakes: Lakes, machine: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """A machine with a daemon that keeps a closed view and an open one."""
    lake = f"file://{lakes.lake('zstd')}"
    options = f"--closure {lakes.all} --nix-socket /run/closed --frontend {request.param}"
    state = f"XDG_CACHE_HOME={machine.directory}/cache XDG_STATE_HOME={machine.directory}/state"
    machine.shell(f"""
        {state} {machine.narfs} daemon --store {lake} --trusted-public-keys {lakes.key} >/run/log 2>&1 &
        echo $! > /run/pid
        until [ -S /run/narfs/control.sock ]; do
            kill -0 $! || {{ cat /run/log >&2; exit 1; }}
            sleep 0.02
        done
        {machine.narfs} view create closed {options}
        {machine.narfs} view create open
    """)
    yield machine
    machine.shell("kill $(cat /run/pid); while kill -0 $(cat /run/pid) 2>/run/why; do sleep 0.02; done")


def test_a_view_of_the_daemon_is_a_lower_layer_too(daemon: World, lakes: Lakes) -> None:
    overlay = (daemon.narfs, "overlay", "create", "/nix/store", "--upper", "/nix/upper")
    with pytest.raises(AssertionError, match="view open: an open View"):
        daemon.run(*overlay, "--view", "open")
    with pytest.raises(AssertionError, match="there is no view named other"):
        daemon.run(*overlay, "--view", "other")
    with pytest.raises(AssertionError, match="give either --mount or --view"):
        daemon.run(*overlay)
    daemon.run(*overlay, "--view", "closed", "--register")
    daemon.run("nix-store", "--verify", "--check-contents")
    assert (
        set(daemon.run("nix", "path-info", "--store", "unix:///run/closed", "--all").split()) == lakes.nar_hashes.keys()
    )
    assert daemon.run("cat", daemon.build("on-top")) == lakes.builder.run("cat", lakes.builder.build("on-top"))
    remove(daemon, "/nix/store")


@pytest.mark.parametrize("elsewhere", ["", "unshare --mount"], ids=["here", "in a namespace of its own"])
def test_a_view_below_an_overlay_is_removed_only_lazily(daemon: World, elsewhere: str) -> None:
    daemon.shell("mkfifo /run/done")
    overlay = f"{daemon.narfs} overlay create /nix/store --view closed --upper /nix/upper --no-registration"
    daemon.shell(f"{elsewhere} sh -ec '{overlay}; echo > /run/done; read _ < /run/done' >/run/log 2>&1 & cat /run/done")
    try:
        with pytest.raises(AssertionError, match=r"an overlay lies over it at /nix/store \(process \d+ has it\)"):
            daemon.run(daemon.narfs, "view", "remove", "closed")
        assert "closed" in daemon.run(daemon.narfs, "view", "list")
        daemon.run(daemon.narfs, "view", "remove", "closed", "--lazy")
    finally:
        daemon.shell("echo > /run/done")
        if not elsewhere:
            remove(daemon, "/nix/store")
