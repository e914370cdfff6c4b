"""A sealed lake stays a binary cache: real Nix substitutes from it, and hashes what narfs shows of it."""

from __future__ import annotations

import json
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.nix.newer import each_nix
from tests.nix.nginx import nginx
from tests.nix.test_nars_of_real_nix import hashes_of
from tests.nix.test_push_for_real_nix import fetch, push

if TYPE_CHECKING:
    from pathlib import Path

    from tests.nix.lakes import Lakes
    from tests.nix.world import World

pytestmark = each_nix


def realise(world: World, lakes: Lakes, url: str) -> None:
    """Let Nix forget the closure, then ask it for all of it with the lake as its only substituter."""
    world.run("nix-store", "--delete", *lakes.nar_hashes)
    keys = ("--option", "trusted-public-keys", lakes.key)
    world.run("nix-store", "--realise", "--option", "substituters", url, *keys, lakes.all)
    world.run("nix", "store", "verify", "--sigs-needed", "1", *keys, *lakes.nar_hashes)


def sealing(world: World, lakes: Lakes, source: Path) -> list[str]:
    """Give the command, up to what is sealed and where."""
    keys = ("--trusted-public-keys", lakes.key, "--secret-key-file", str(lakes.secret_key))
    return [world.narfs, "seal", "--store", f"file://{source}", *keys]


def check(world: World, lakes: Lakes, lake: Path) -> None:
    """Let Nix take everything out of the lake, and look at everything through a mount that trusts its indexes."""
    assert {file.stem for file in lake.glob("*.narfs")} == {file.stem for file in lake.glob("*.narinfo")} != set()
    fetch(world, lakes, f"file://{lake}", *lakes.nar_hashes)
    with nginx(world.directory / "nginx", lake) as url:
        realise(world, lakes, url)
    options = ("--closure", lakes.all, "--trusted-index-keys", lakes.key)
    with world.mounted(f"file://{lake}", lakes.key, *options, by="erofs") as mountpoint:
        assert hashes_of(world, mountpoint, lakes.nar_hashes) == lakes.nar_hashes
        [told] = json.loads(world.run(world.narfs, "status", "--json", mountpoint))
        counters = told["engine"]["counters"]
        assert counters["indexes_taken"] == len(set(lakes.nar_hashes.values()))
        assert counters["indexes_refused"] == counters["corrupt"] == 0


def test_nix_fetches_from_a_lake_that_was_pushed_sealed(lakes: Lakes, machine: World) -> None:
    lake = machine.directory / "lake"
    push(lakes.builder, lakes, f"file://{lake}", "--closure", lakes.all)
    check(machine, lakes, lake)


@pytest.mark.parametrize("compression", ["none", "xz", "zstd"])
def test_a_lake_that_nix_wrote_still_serves_it_when_sealed_in_place(
    lakes: Lakes, machine: World, compression: str
) -> None:
    lake = machine.directory / "lake"
    shutil.copytree(lakes.lake(compression), lake)
    machine.run(*sealing(machine, lakes, lake), "--all")
    check(machine, lakes, lake)


def test_a_damaged_nar_in_a_lake_of_nix_is_told_of_and_everything_else_is_sealed(lakes: Lakes, machine: World) -> None:
    source, to = machine.directory / "source", machine.directory / "to"
    shutil.copytree(lakes.lake("xz"), source)
    bad = lakes.all  # nothing refers to it
    [url] = [
        line.removeprefix("URL: ")
        for line in (source / f"{bad[11:43]}.narinfo").read_text().splitlines()
        if line.startswith("URL: ")
    ]
    blob = bytearray((source / url).read_bytes())
    blob[len(blob) // 2] ^= 1
    (source / url).write_bytes(blob)
    good = sorted(set(lakes.nar_hashes) - {bad})
    for arguments in (("--index-to", str(machine.directory / "indexes")), ("--to", str(to)), ()):
        command = shlex.join([*sealing(machine, lakes, source), "--json", "--all", *arguments])
        told = json.loads(machine.shell(f"{command} || test $? = 1"))
        assert told["summary"] == {"sealed": len(good), "present": 0, "waiting": 0, "failed": 1}
        assert [one["path"] for one in told["paths"] if one["error"]] == [bad]
    assert {file.stem for file in (machine.directory / "indexes").glob("*.narfs")} == {path[11:43] for path in good}
    fetch(machine, lakes, f"file://{to}", *good)


def test_machines_that_seal_one_lake_together_make_one_that_nix_takes(lakes: Lakes, machine: World) -> None:
    lake = machine.directory / "lake"
    command = [*sealing(machine, lakes, lakes.lake("xz")), "--to", f"file://{lake}", "--closure", lakes.all]
    shards = [shlex.join([*command, "--shard", f"{number}/3"]) for number in (1, 2, 3)]
    machine.shell(" & ".join(shards) + " & wait")
    told = json.loads(machine.run(*command, "--json"))
    assert told["summary"] == {"sealed": 0, "present": len(lakes.nar_hashes), "waiting": 0, "failed": 0}
    check(machine, lakes, lake)


def test_a_copy_in_the_sealed_layout_keeps_the_signatures_that_nix_made(lakes: Lakes, machine: World) -> None:
    lake = machine.directory / "lake"
    machine.run(*sealing(machine, lakes, lakes.lake("xz")), "--to", f"file://{lake}", "--closure", lakes.all)
    check(machine, lakes, lake)
