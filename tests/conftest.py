from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.support.s3 import S3Server, run_s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer

# No deadline per example: on a busy machine it fails tests for what other processes do.
settings.register_profile("narfs", deadline=None)
settings.load_profile("narfs")

_WITH_NIX = ("tests/nix/", "tests/benchmarks/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults", action="store_true", help="run the tests of faults and crashes, no others, in their full length"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    in_full = bool(config.getoption("--faults"))

    def runs(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("faults")
        return marker is not None if in_full else marker is None or bool(marker.kwargs.get("in_ci", True))

    config.hook.pytest_deselected(items=[item for item in items if not runs(item)])
    # What one process has to do alone comes first, so that at the end none waits for it.
    items[:] = sorted(filter(runs, items), key=lambda item: not item.nodeid.startswith(_WITH_NIX))


class ByFile(LoadFileScheduling):
    """Who of the processes of ``scripts/test`` runs what: the next file; but one has all that starts real Nix.

    Nix deletes nothing that any process of the machine has open: who deletes paths must not meet who shows them.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "nix" if nodeid.startswith(_WITH_NIX) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="session")
def in_full(pytestconfig: pytest.Config) -> bool:
    """Whether a test marked ``faults`` shall take its time: minutes, not the seconds it has in CI."""
    return bool(pytestconfig.getoption("--faults"))


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may enter, with a short path; what is above tmp_path is for its owner alone."""
    with tempfile.TemporaryDirectory(prefix="narfs-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
