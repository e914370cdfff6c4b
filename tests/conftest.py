from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.s3 import S3Server, run_s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

# No deadline per example: on a busy machine it fails tests for what other processes do.
settings.register_profile("narfs", deadline=None)
settings.load_profile("narfs")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
