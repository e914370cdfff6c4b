from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from narfs.daemon.erofs import kernel
from tests.cli.program import Program, make_program

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def program() -> Iterator[Program]:
    with make_program() as made:
        yield made


@pytest.fixture
def by_erofs(program: Program) -> str:
    """The word for EROFS, where it can be."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root mounts EROFS")
    if (trouble := kernel.trouble(program.home, program.home)) is not None:
        pytest.skip(trouble)
    return "erofs"
