from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def directory() -> Iterator[Path]:
    """Of one test, with a short path: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="narfs-faults-") as made:
        yield Path(made)
