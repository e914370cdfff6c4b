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
        public, secret = world.directory / "public-key", world.directory / "secret-key"
        world.run("nix-store", "--generate-binary-cache-key", "test-1", secret, public)
        top = world.build("all")
        paths = world.run("nix-store", "--query", "--requisites", top).split()
        hashes = world.run("nix-store", "--query", "--hash", *paths).split()
        registration = world.directory / "registration"
        registration.write_text(world.run("nix-store", "--dump-db", *paths))
        nar_hashes = {path: text.removeprefix("sha256:") for path, text in zip(paths, hashes, strict=True)}
        yield Lakes(world, top, nar_hashes, public.read_text().strip(), registration)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[World]:
    """A machine whose Nix store is empty."""
    with World(tmp_path / "machine") as world:
        yield world
