from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.nix.newer import NAME

if TYPE_CHECKING:
    from tests.nix.world import World


@pytest.mark.parametrize("machine", ["newer"], indirect=True)
@pytest.mark.parametrize("program", ["nix", "nix-store", "nix-daemon"])
def test_a_machine_with_the_newer_nix_runs_the_version_that_was_unpacked(machine: World, program: str) -> None:
    _, version, _ = NAME.split("-")
    assert machine.run(program, "--version").split()[-1].startswith(f"{version}.")
