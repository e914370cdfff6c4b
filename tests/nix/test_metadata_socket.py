"""Real Nix asks the metadata socket of a mount, as it would ask a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from narfs.publish.nix_store import ValidPath, parse_path_info
from tests.nix.newer import each_nix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nix.lakes import Lakes
    from tests.nix.world import World

pytestmark = each_nix
"""The machine's own Nix asks ``narfs mount``, the newer one the daemon."""

SOCKET = "/run/nix.sock"
STORE = ("--store", f"unix://{SOCKET}")


@pytest.fixture
def closed(lakes: Lakes, machine: World) -> Iterator[World]:
    lake = f"file://{lakes.lake('zstd')}"
    by = "daemon erofs" if machine.is_newer else "tree"
    with machine.mounted(lake, lakes.key, "--closure", lakes.all, "--nix-socket", SOCKET, by=by):
        yield machine


@pytest.fixture
def opened(lakes: Lakes, machine: World) -> Iterator[World]:
    by = "daemon tree" if machine.is_newer else "tree"
    with machine.mounted(f"file://{lakes.lake('zstd')}", lakes.key, "--nix-socket", SOCKET, by=by):
        yield machine


def by_path(told: str) -> dict[str, ValidPath]:
    return {info.path.path: info for info in parse_path_info(told.encode())}


def test_nix_learns_all_that_the_lake_says(closed: World, lakes: Lakes) -> None:
    lake = f"file://{lakes.lake('zstd')}"
    command = ("nix", "path-info", "--json", "--recursive", lakes.all)
    told = by_path(closed.run(*command, *STORE))
    assert told == by_path(lakes.builder.run(*command, "--store", lake))
    assert told.keys() == lakes.nar_hashes.keys()
    assert all(info.signatures for info in told.values())


def test_nix_lists_all_paths(closed: World, lakes: Lakes) -> None:
    assert set(closed.run("nix", "path-info", "--all", *STORE).split()) == lakes.nar_hashes.keys()


@pytest.mark.parametrize("query", ["requisites", "references", "referrers", "referrers-closure", "hash", "size"])
def test_nix_store_asks_as_it_asks_a_daemon(closed: World, lakes: Lakes, query: str) -> None:
    leaf = next(path for path in lakes.nar_hashes if path.endswith("-file.txt"))
    for path in (lakes.all, leaf):
        asked = f"NIX_REMOTE=unix://{SOCKET} nix-store --query --{query} {path}"
        expected = lakes.builder.run("nix-store", "--query", f"--{query}", path).split()
        # The builder has more than the closure: derivations, and what other tests built on top.
        known = {line for line in expected if line in lakes.nar_hashes or not line.startswith("/nix/store/")}
        assert set(closed.shell(asked).split()) == known


def test_signatures_are_verified_through_the_socket(closed: World, lakes: Lakes) -> None:
    keys = ("--option", "trusted-public-keys", lakes.key)
    closed.run("nix", "store", "verify", "--no-contents", "--recursive", *keys, *STORE, lakes.all)


def test_what_is_not_shown_is_not_valid(closed: World, lakes: Lakes) -> None:
    other = lakes.all[:-1] + "x"
    with pytest.raises(AssertionError, match="is not valid"):
        closed.run("nix", "path-info", *STORE, other)
    with pytest.raises(AssertionError, match="is not valid"):
        closed.run("nix", "path-info", *STORE, "/nix/store/" + "0" * 32 + "-none")


def test_nix_is_told_what_is_not_done_here(closed: World, lakes: Lakes) -> None:
    with pytest.raises(AssertionError, match="narfs tells what narinfos say, and changes nothing: collect_garbage"):
        closed.run("nix", "store", "gc", *STORE)
    with pytest.raises(AssertionError, match="changes nothing: add_to_store"):
        closed.shell(f"echo hello > file && nix store add-file {' '.join(STORE)} file")
    closed.run("nix", "path-info", *STORE, lakes.all)


def test_an_open_view_answers_for_what_it_is_asked(opened: World, lakes: Lakes) -> None:
    told = opened.run("nix", "path-info", "--recursive", *STORE, lakes.all).split()
    assert set(told) == lakes.nar_hashes.keys()
    with pytest.raises(AssertionError, match="is not valid"):
        opened.run("nix", "path-info", *STORE, "/nix/store/" + "0" * 32 + "-none")
    with pytest.raises(AssertionError, match="an open View"):
        opened.run("nix", "path-info", "--all", *STORE)
