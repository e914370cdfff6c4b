"""A newer Nix takes mount and metadata socket for the lower store of a local-overlay store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest

from tests.nix.world import FRONTENDS, HERE, NIX_CONFIG, VIEW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nix.lakes import Lakes
    from tests.nix.world import World

pytestmark = pytest.mark.parametrize("machine", ["newer"], indirect=True)

SOCKET = "/run/nix.sock"
HOOK = "/run/remount-hook"


class Worker:
    """A machine whose store is an overlay, and whose Nix was told nothing of what lies below."""

    def __init__(self, machine: World, mountpoint: object) -> None:
        self.machine = machine
        self.mountpoint = mountpoint
        lower = f"unix://{SOCKET}?real={mountpoint}"
        parameters = {"upper-layer": "/nix/upper", "remount-hook": HOOK, "lower-store": lower}
        self.store = "local-overlay://?" + urlencode(parameters, quote_via=quote)

    def nix(self, *command: str) -> str:
        # In the configuration, not on the command line: what Nix starts needs it, too.
        config = f"NIX_CONFIG={NIX_CONFIG}extra-experimental-features = local-overlay-store\n"
        return self.machine.run("env", config, "nix", *command, "--store", self.store)

    def build(self, attribute: str) -> str:
        arguments = ("--file", str(HERE / "closure.nix"), attribute, "--no-link", "--print-out-paths")
        return self.nix("build", *arguments).strip()

    def upper(self) -> set[str]:
        return set(self.machine.shell("ls -A /nix/upper").split()) - {".links"}

    def whiteouts(self) -> str:
        return self.machine.run("find", "/nix/upper", "-type", "c")


@pytest.fixture(params=["tree", "erofs", "daemon erofs"])
def worker(lakes: Lakes, machine: World, request: pytest.FixtureRequest) -> Iterator[Worker]:
    lake = f"file://{lakes.lake('zstd')}"
    options, by = ("--closure", lakes.all, "--nix-socket", SOCKET), request.param
    with machine.mounted(lake, lakes.key, *options, by=by) as mountpoint:
        lower = ("--mount", mountpoint) if by in FRONTENDS else ("--view", VIEW)
        upper = (*lower, "--upper", "/nix/upper", "--no-registration")
        machine.run(machine.narfs, "overlay", "create", "/nix/store", *upper)
        # The newer Nix runs with a /usr of its own, and narfs with the machine's.
        remount = f"{' '.join(machine.enter)} {machine.narfs} overlay remount"
        machine.shell(f"""
            printf '%s\n' '#!/bin/sh' 'echo "$@" >> {HOOK}.log' 'exec {remount} "$@"' > {HOOK}
            chmod +x {HOOK}
        """)
        yield Worker(machine, mountpoint)
        machine.run(machine.narfs, "overlay", "remove", "/nix/store")


def test_nix_knows_the_closure_with_its_signatures(worker: Worker, lakes: Lakes) -> None:
    told = json.loads(worker.nix("path-info", "--json", "--recursive", "--sigs", lakes.all))
    assert told.keys() == lakes.nar_hashes.keys()
    assert all(info["signatures"] for info in told.values())


def test_nix_verifies_signatures_and_contents(worker: Worker, lakes: Lakes) -> None:
    worker.nix("store", "verify", "--recursive", "--option", "trusted-public-keys", lakes.key, lakes.all)


def test_nix_builds_on_top(worker: Worker, lakes: Lakes) -> None:
    built = worker.build("on-top")
    assert worker.machine.run("cat", built) == lakes.builder.run("cat", lakes.builder.build("on-top"))
    assert {name for name in worker.upper() if not name.endswith(".drv")} == {built.rpartition("/")[2]}
    references = worker.nix("path-info", "--recursive", built).split()
    assert len(references) > 1
    assert set(references) <= {built, *lakes.nar_hashes}


def test_collecting_garbage_leaves_the_lower_layer_alone(worker: Worker, lakes: Lakes) -> None:
    built = worker.build("on-top")
    worker.nix("store", "gc")
    assert worker.upper() == set()
    assert worker.whiteouts() == ""
    worker.nix("store", "verify", "--recursive", "--no-trust", lakes.all)
    assert worker.build("on-top") == built


def test_what_is_in_both_layers_is_dropped_from_the_upper_one(worker: Worker, lakes: Lakes) -> None:
    name = next(path for path in lakes.nar_hashes if path.endswith("-many")).rpartition("/")[2]
    worker.machine.shell(f"""
        cp -a {worker.mountpoint}/{name} /nix/upper/{name}
        {worker.machine.narfs} overlay remount /nix/store
    """)
    worker.nix("path-info", f"/nix/store/{name}")
    worker.nix("store", "optimise")
    assert worker.upper() == set()
    assert worker.whiteouts() == ""
    assert worker.machine.run("cat", f"{HOOK}.log") == "/nix/store\n"
    worker.nix("store", "verify", "--no-trust", f"/nix/store/{name}")


def test_nix_finds_a_mount_that_is_not_the_one_it_was_told_of(worker: Worker, lakes: Lakes) -> None:
    worker.store = worker.store.replace(quote(str(worker.mountpoint), safe=""), quote("/elsewhere", safe=""))
    with pytest.raises(AssertionError, match="mounted incorrectly"):
        worker.nix("path-info", lakes.all)
