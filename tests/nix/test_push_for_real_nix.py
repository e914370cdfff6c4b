"""narfs pushes; real Nix reads what was pushed, and trusts it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.nix.nginx import nginx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.nix.lakes import Lakes
    from tests.nix.world import World


def push(world: World, lakes: Lakes, url: str, *arguments: str | Path) -> None:
    secret = lakes.builder.directory / "secret-key"
    world.run(world.narfs, "push", "--to", url, "--secret-key-file", secret, *arguments)


def fetch(world: World, lakes: Lakes, url: str, *paths: str) -> None:
    """Let Nix copy ``paths`` into its own store; it believes nobody but the key of the lakes."""
    keys = ("--option", "trusted-public-keys", lakes.key)
    world.run("nix", "copy", "--from", url, *keys, *paths)
    world.run("nix-store", "--verify-path", *paths)


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_nix_fetches_a_closure_that_narfs_pushed(lakes: Lakes, machine: World, compression: str) -> None:
    lake = machine.directory / "lake"
    push(lakes.builder, lakes, f"file://{lake}", "--compression", compression, "--closure", lakes.all)
    fetch(machine, lakes, f"file://{lake}", *lakes.nar_hashes)


def test_the_same_over_http_and_nginx(lakes: Lakes, machine: World) -> None:
    with nginx(machine.directory / "nginx", machine.directory / "lake") as url:
        push(lakes.builder, lakes, url, "--closure", lakes.all)
        fetch(machine, lakes, url, *lakes.nar_hashes)


def test_what_nix_knew_of_the_paths_is_kept(lakes: Lakes, machine: World) -> None:
    lake = f"file://{machine.directory}/lake"
    push(lakes.builder, lakes, lake, "--closure", lakes.all)
    fetch(machine, lakes, lake, *lakes.nar_hashes)
    kept = ("deriver", "narHash", "narSize", "references", "path")
    told, original = (
        [
            {key: info.get(key) for key in kept}
            for info in json.loads(world.run("nix", "path-info", "--json", "-r", lakes.all))
        ]
        for world in (machine, lakes.builder)
    )
    assert sorted(told, key=str) == sorted(original, key=str)


def test_a_tree_gets_the_name_that_nix_gives_it(lakes: Lakes, machine: World) -> None:
    tree = machine.directory / "tree"
    machine.shell(f"mkdir -p {tree}/sub && echo hello > {tree}/sub/file && ln -s file {tree}/sub/link")
    lake = f"file://{machine.directory}/lake"
    push(machine, lakes, lake, tree)
    name = machine.run("nix", "store", "add-path", tree).strip()
    machine.run("nix-store", "--delete", name)
    fetch(machine, lakes, lake, name)
