"""Real Nix takes a mount, below an overlay, for its own store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.nix.newer import each_nix
from tests.nix.world import FRONTENDS, VIEW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nix.lakes import Lakes
    from tests.nix.world import World

pytestmark = each_nix


@pytest.fixture(params=["tree", "erofs", "daemon erofs"])
def store(lakes: Lakes, machine: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """A machine whose store is an overlay on a closed View, and whose Nix database knows the closure."""
    by: str = request.param
    with machine.mounted(f"file://{lakes.lake('zstd')}", lakes.key, "--closure", lakes.all, by=by) as mountpoint:
        assert (
            machine.run("stat", "--file-system", "--format=%T", mountpoint).strip()
            in {
                "tree": {"fuseblk", "fuse"},
                "erofs": {"erofs", "UNKNOWN (0xe0f5e1e2)"},
            }[by.removeprefix("daemon ")]
        )
        lower = ("--mount", mountpoint) if by in FRONTENDS else ("--view", VIEW)
        overlay = ("overlay", "create", "/nix/store", *lower, "--upper", "/nix/upper", "--register")
        assert machine.run(machine.narfs, *overlay) == ""
        yield machine
        machine.run(machine.narfs, "overlay", "remove", "/nix/store")


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
