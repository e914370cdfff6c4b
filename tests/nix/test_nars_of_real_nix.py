"""Real Nix writes lakes; what narfs shows of them, real Nix hashes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.nix.lakes import COMPRESSIONS
from tests.nix.nginx import nginx
from tests.nix.world import SHOWN_BY

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.nix.lakes import Lakes
    from tests.nix.world import World


def hashes_of(world: World, mountpoint: Path, paths: Iterable[str]) -> dict[str, str]:
    """Let Nix dump every path below the mount, and hash what it gives."""
    paths = list(paths)
    dumps = [
        f"nix-store --dump {mountpoint}/{path.rpartition('/')[2]} | nix-hash --type sha256 --base32 --flat /dev/stdin"
        for path in paths
    ]
    return dict(zip(paths, world.shell("\n".join(dumps)).split(), strict=True))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_path_has_its_nar_hash_whatever_its_compression(lakes: Lakes, machine: World, compression: str) -> None:
    lake = f"file://{lakes.lake(compression)}"
    with machine.mounted(lake, lakes.key, "--closure", lakes.all) as mountpoint:
        assert hashes_of(machine, mountpoint, lakes.nar_hashes) == lakes.nar_hashes


@pytest.mark.parametrize("by", SHOWN_BY[1:])
def test_the_same_whoever_shows_it(lakes: Lakes, machine: World, by: str) -> None:
    with machine.mounted(f"file://{lakes.lake('zstd')}", lakes.key, "--closure", lakes.all, by=by) as mountpoint:
        assert hashes_of(machine, mountpoint, lakes.nar_hashes) == lakes.nar_hashes


@pytest.mark.parametrize("compression", ["xz", "zstd"])
def test_the_same_in_lakes_that_a_newer_nix_wrote(newer_lakes: Lakes, machine: World, compression: str) -> None:
    lake = f"file://{machine.directory}/lake"
    to = f"{lake}?compression={compression}&parallel-compression=true&secret-key={newer_lakes.secret_key}"
    listed = [path for path in newer_lakes.nar_hashes if path.endswith(("-big", "-many", "-executable"))]
    newer_lakes.builder.run("nix", "copy", "--to", f"{to}&write-nar-listing=1", *listed)
    newer_lakes.builder.run("nix", "copy", "--to", to, newer_lakes.all)  # it cannot list a name that is not UTF-8
    with machine.mounted(lake, newer_lakes.key, "--closure", newer_lakes.all) as mountpoint:
        assert hashes_of(machine, mountpoint, newer_lakes.nar_hashes) == newer_lakes.nar_hashes


@pytest.mark.parametrize("verify", ["strict", "progressive"])
@pytest.mark.parametrize("compression", ["none", "xz", "zstd"])
def test_a_lake_behind_nginx_gives_the_same(lakes: Lakes, machine: World, compression: str, verify: str) -> None:
    with (
        nginx(machine.directory / "nginx", lakes.lake(compression)) as url,
        machine.mounted(url, lakes.key, "--closure", lakes.all, "--verify", verify) as mountpoint,
    ):
        assert hashes_of(machine, mountpoint, lakes.nar_hashes) == lakes.nar_hashes


def test_an_open_view_finds_what_it_is_asked_for(lakes: Lakes, machine: World) -> None:
    with machine.mounted(f"file://{lakes.lake('zstd')}", lakes.key) as mountpoint:
        assert machine.run("ls", mountpoint) == ""
        assert hashes_of(machine, mountpoint, lakes.nar_hashes) == lakes.nar_hashes
        assert len(machine.run("ls", mountpoint).split()) == len(lakes.nar_hashes)


def test_a_lake_that_a_stranger_signed_shows_nothing(lakes: Lakes, machine: World) -> None:
    stranger = "stranger-1:" + lakes.key.partition(":")[2][::-1].lstrip("=").ljust(43, "A")[:43] + "="
    with machine.mounted(f"file://{lakes.lake('zstd')}", stranger) as mountpoint:
        complaint = machine.shell(f"ls {mountpoint}/{lakes.all.rpartition('/')[2]} 2>&1 || true")
    assert "Permission denied" in complaint


def test_a_compression_narfs_cannot_read_is_named(lakes: Lakes, machine: World) -> None:
    small = machine.directory / "lake-lzip"
    file = next(path for path in lakes.nar_hashes if path.endswith("-file.txt"))
    lakes.builder.run("nix", "copy", "--to", f"file://{small}?compression=lzip&secret-key={lakes.secret_key}", file)
    told = machine.shell(
        f"{machine.narfs} cat --store file://{small} --trusted-public-keys '{lakes.key}' {file} 2>&1 || true"
    )
    assert "lzip" in told
