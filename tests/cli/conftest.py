from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.program import Program, make_program

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def program() -> Iterator[Program]:
    with make_program() as made:
        yield made
