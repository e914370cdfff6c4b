"""Real Nix takes a mount, below an overlay, for its own store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.nix.newer import each_nix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nix.lakes import Lakes
    from tests.nix.world import World

pytestmark = each_nix


@pytest.fixture
def store(lakes: Lakes, machine: World) -> Iterator[World]:
    """A machine whose store is an overlay on a closed View, and whose Nix database knows the closure."""
    lake = f"file://{lakes.lake('zstd')}"
    stores = f"--store {lake} --trusted-public-keys {lakes.key}"
    with machine.mounted(lake, lakes.key, "--closure", lakes.all) as mountpoint:
        machine.shell(f"""
            mkdir -p /nix/store /nix/upper /nix/work
            mount -t overlay overlay -o lowerdir={mountpoint},upperdir=/nix/upper,workdir=/nix/work /nix/store
            {machine.narfs} registration {stores} --closure {lakes.all} | nix-store --load-db
        """)
        yield machine
        machine.run("umount", "/nix/store")


def test_the_registration_is_what_nix_would_have_written(lakes: Lakes, machine: World) -> None:
    stores = ("--store", f"file://{lakes.lake('zstd')}", "--trusted-public-keys", lakes.key)
    written = machine.run(machine.narfs, "registration", *stores, "--closure", lakes.all)
    assert sorted(written.splitlines()) == sorted(lakes.registration.read_text().splitlines())


def test_every_path_verifies(store: World, lakes: Lakes) -> None:
    store.run("nix-store", "--verify-path", *lakes.nar_hashes)


def test_the_whole_store_verifies_with_its_contents(store: World) -> None:
    store.run("nix-store", "--verify", "--check-contents")


def test_nix_lists_the_closure_with_its_sizes(store: World, lakes: Lakes) -> None:
    command = ("nix", "path-info", "-rsS", lakes.all)
    assert store.run(*command).split() == lakes.builder.run(*command).split()


def test_nix_builds_on_top_and_reads_what_it_built_from(store: World, lakes: Lakes) -> None:
    built = store.build("on-top")
    assert store.run("cat", built) == lakes.builder.run("cat", lakes.builder.build("on-top"))
    written = [name for name in store.shell("ls /nix/upper").split() if not name.endswith(".drv")]
    assert written == [built.rpartition("/")[2]]
    store.run("nix-store", "--verify-path", built)
