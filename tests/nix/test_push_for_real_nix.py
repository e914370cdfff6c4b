"""narfs pushes; real Nix reads what was pushed, and trusts it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from narfs.publish.nix_store import parse_path_info
from tests.nix.newer import each_nix
from tests.nix.nginx import nginx

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.publish.nix_store import ValidPath
    from tests.nix.lakes import Lakes
    from tests.nix.world import World

pytestmark = each_nix


def push(world: World, lakes: Lakes, url: str, *arguments: str | Path) -> None:
    world.run(world.narfs, "push", "--to", url, "--secret-key-file", lakes.secret_key, *arguments)


def fetch(world: World, lakes: Lakes, url: str, *paths: str) -> None:
    """Let Nix copy ``paths`` into its own store; it believes nobody but the key of the lakes."""
    keys = ("--option", "trusted-public-keys", lakes.key)
    world.run("nix", "copy", "--from", url, *keys, *paths)
    world.run("nix", "store", "verify", "--sigs-needed", "1", *keys, *paths)


def told_of(world: World, path: str) -> list[ValidPath]:
    """What Nix knows of a closure, signatures apart."""
    infos = parse_path_info(world.run("nix", "path-info", "--json", "-r", path).encode())
    return sorted((replace(info, signatures=()) for info in infos), key=lambda info: info.path)


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
    assert told_of(machine, lakes.all) == told_of(lakes.builder, lakes.all)


def test_the_store_of_a_newer_nix_is_pushed_as_well(newer_lakes: Lakes, machine: World) -> None:
    lake = f"file://{machine.directory}/lake"
    push(newer_lakes.builder, newer_lakes, lake, "--closure", newer_lakes.all)
    fetch(machine, newer_lakes, lake, *newer_lakes.nar_hashes)
    assert told_of(machine, newer_lakes.all) == told_of(newer_lakes.builder, newer_lakes.all)


def test_nix_takes_nothing_that_was_signed_with_another_key(lakes: Lakes, machine: World) -> None:
    lake = f"file://{machine.directory}/lake"
    push(lakes.builder, lakes, lake, "--closure", lakes.all)
    machine.run("nix-store", "--generate-binary-cache-key", "test-1", "/nix/secret", "/nix/public")
    key = machine.run("cat", "/nix/public").strip()
    with pytest.raises(AssertionError, match="signature"):
        machine.run("nix", "copy", "--from", lake, "--option", "trusted-public-keys", key, lakes.all)


def test_a_tree_gets_the_name_that_nix_gives_it(lakes: Lakes, machine: World) -> None:
    tree = machine.directory / "tree"
    machine.shell(f"mkdir -p {tree}/sub && echo hello > {tree}/sub/file && ln -s file {tree}/sub/link")
    lake = f"file://{machine.directory}/lake"
    push(machine, lakes, lake, tree)
    name = machine.run("nix", "store", "add-path", tree).strip()
    machine.run("nix-store", "--delete", name)
    fetch(machine, lakes, lake, name)
