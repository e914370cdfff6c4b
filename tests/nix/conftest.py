from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nix.lakes import Lakes
from tests.nix.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    missing = [program for program in ("nix-store", "nix", "unshare", "nsenter") if not shutil.which(program)]
    if os.geteuid() != 0:
        missing.append("root, to make a private /nix and overlays")
    if not Path("/dev/fuse").exists():
        missing.append("/dev/fuse")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.nix)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


@pytest.fixture(scope="session")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lakes]:
    with World(tmp_path_factory.mktemp("builder")) as world:
        yield Lakes.build(world)


@pytest.fixture(scope="session")
def newer_lakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lakes]:
    """The same closure, built by a newer Nix, whose lakes are its own."""
    with World(tmp_path_factory.mktemp("newer-builder"), newer=True) as world:
        yield Lakes.build(world)


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A machine whose Nix store is empty."""
    with World(tmp_path / "machine", newer=getattr(request, "param", "own") == "newer") as world:
        yield world
