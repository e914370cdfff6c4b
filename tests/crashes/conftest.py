from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crashes.world import World, make_lake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.lakes import Lake, Member


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, list[Member]]:
    """The lake of all tests here, and what is in it; nobody writes to it."""
    return make_lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture
def world(stock: tuple[Lake, list[Member]]) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="narfs-crash-") as directory:
        yield World(Path(directory), *stock, cache=Path(directory, "cache"))
