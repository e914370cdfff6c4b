"""narfs pushes; real Nix reads what was pushed, and trusts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs.publish.nix_store import parse_path_info
from tests.nix.newer import each_nix
from tests.nix.nginx import nginx
from tests.nix.world import HERE

if TYPE_CHECKING:
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


def test_a_store_path_that_is_a_symlink_is_pushed_itself(lakes: Lakes, machine: World) -> None:
    lake = f"file://{machine.directory}/lake"
    [symlink] = [path for path in lakes.nar_hashes if path.endswith("-symlink")]
    push(lakes.builder, lakes, lake, "--closure", symlink)
    fetch(machine, lakes, lake, symlink)


@pytest.fixture
def hook(machine: World) -> Path:
    """The hook as somebody installs it, for a lake in the machine's directory."""
    script = machine.directory / "hook"
    settings = machine.directory / "settings"
    source = Path(__file__).parents[2] / "scripts" / "post-build-hook"
    script.write_text(source.read_text().replace("/etc/nix/narfs-push.conf", str(settings)))
    script.chmod(0o755)
    key = machine.directory / "key"
    machine.run("nix-store", "--generate-binary-cache-key", "hook-1", key, f"{key}.pub")
    lake = machine.directory / "lake"
    settings.write_text(f"lake=file://{lake}\nsecret_key_file={key}\nnarfs={machine.narfs}\n")
    return script


def build(machine: World, hook: Path, attribute: str) -> str:
    closure = HERE / "closure.nix"
    options = ("--option", "post-build-hook", hook)
    return machine.run("nix-build", closure, "-A", attribute, "--no-out-link", *options).strip()


def queued(machine: World) -> list[str]:
    return machine.shell("ls /nix/var/nix/gcroots/narfs-push").split()


def test_what_is_built_is_in_the_lake_with_its_closure_and_signed(machine: World, hook: Path) -> None:
    top = build(machine, hook, "all")
    closure = machine.run("nix-store", "--query", "--requisites", top).split()
    assert queued(machine) == []
    key = (machine.directory / "key.pub").read_text().strip()
    machine.run("nix-store", "--delete", "--ignore-liveness", *closure)
    lake = f"file://{machine.directory}/lake"
    machine.run("nix", "copy", "--from", lake, "--option", "trusted-public-keys", key, top)
    machine.run("nix-store", "--verify-path", *closure)


def test_while_the_lake_is_down_builds_go_on_and_nothing_is_lost(machine: World, hook: Path) -> None:
    lake = machine.directory / "lake"
    lake.write_text("a disk that is not mounted")
    tool = build(machine, hook, "tool")
    assert Path(tool).name in queued(machine)
    machine.run("nix-store", "--gc")
    assert machine.run("nix-store", "--query", "--hash", tool)
    lake.unlink()
    machine.run(hook)
    assert queued(machine) == []
    assert (lake / f"{Path(tool).name[:32]}.narinfo").exists()


def test_a_queued_path_that_was_deleted_after_all_is_forgotten(machine: World, hook: Path) -> None:
    machine.shell(
        f"mkdir -p /nix/var/nix/gcroots/narfs-push; ln -s /nix/store/gone /nix/var/nix/gcroots/narfs-push/; {hook}"
    )
    assert queued(machine) == []
