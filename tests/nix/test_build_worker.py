"""Build workers, by the recipe of docs/build-worker.md: view, overlay, build, push, report; and nothing is left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.nix.newer import each_nix
from tests.nix.nginx import nginx
from tests.nix.workers import JOBS, Served, Worker, wait_for
from tests.nix.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = range(1, 9)


class Inputs(NamedTuple):
    """A sealed lake that has the inputs of all jobs; their paths by name."""

    builder: World
    lake: Path
    key: str
    paths: dict[str, str]

    @property
    def secret_key(self) -> Path:
        return self.builder.directory / "secret-key"

    def nar(self, name: str) -> str:
        """Name the blob of an input, as the lake is asked for it."""
        hash_part = self.paths[name].rpartition("/")[2][:32]
        lines = (self.lake / f"{hash_part}.narinfo").read_text().splitlines()
        return "/" + next(line.removeprefix("URL: ") for line in lines if line.startswith("URL: "))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    with World(tmp_path_factory.mktemp("inputs")) as world:
        public, secret = world.directory / "public-key", world.directory / "secret-key"
        world.run("nix-store", "--generate-binary-cache-key", "test-1", secret, public)
        lake = world.directory / "lake"
        top = world.run("nix-build", JOBS, "-A", "inputs", "--no-out-link").strip()
        world.run(world.narfs, "push", "--to", f"file://{lake}", "--secret-key-file", secret, "--closure", top)
        paths = {path.partition("-")[2]: path for path in world.run("nix-store", "-qR", top).split()}
        yield Inputs(world, lake, public.read_text().strip(), paths)


@pytest.fixture
def lake(inputs: Inputs, tmp_path: Path) -> Iterator[Served]:
    """The lake of the inputs, to which nobody has pushed."""
    copy = tmp_path / "lake"
    shutil.copytree(inputs.lake, copy, copy_function=os.link)
    with nginx(tmp_path / "nginx", copy) as url:
        yield Served(url, copy, tmp_path / "nginx/access.log")


@pytest.fixture(params=["tree", "erofs"])
def worker(machine: World, inputs: Inputs, lake: Served, request: pytest.FixtureRequest) -> Worker:
    return Worker(machine, lake.url, inputs.key, inputs.secret_key, "--frontend", request.param)


def nothing_is_left(worker: Worker) -> None:
    wait_for(lambda: worker.views() == [])
    assert worker.mounts() == []


@each_nix
def test_a_job_is_built_on_a_view_and_pushed_and_nothing_is_left(
    worker: Worker, lake: Served, inputs: Inputs, tmp_path: Path
) -> None:
    with worker.serving():
        built = worker.finish(worker.start(worker.derivation("job.n1"), "one"))
        nothing_is_left(worker)
    asked = lake.asked()
    assert inputs.nar("compiler") in asked
    assert inputs.nar("unread") not in asked
    report = worker.report("one")
    read = {path["path"]: path for path in report["paths"] if path["opened_files"]}
    assert read.keys() == {inputs.paths["compiler"], inputs.paths["library"]}
    assert read[inputs.paths["compiler"]]["opened_files"] == 202
    assert report["read_bytes"] >= 10_000_000
    with World(tmp_path / "other") as other:
        keys = ("--option", "trusted-public-keys", inputs.key, "--option", "substituters", lake.url)
        other.run("nix-store", "--realise", built, *keys)
        other.run("nix", "store", "verify", "--recursive", "--sigs-needed", "1", *keys, built)
        references = other.run("nix-store", "--query", "--references", built).split()
        assert references == [inputs.paths["library"]]
        assert other.run("sh", "-c", f"cat {built}/sum; cksum < {built}/library").startswith("1 ")


def test_eight_builds_at_once_fetch_what_one_does(machine: World, inputs: Inputs, lake: Served, worker: Worker) -> None:
    with worker.serving():
        worker.finish(worker.start(worker.derivation("job.n1"), "alone"))
        nothing_is_left(worker)
    alone = sum(lake.asked().values())
    machine.shell(f"rm -r {worker.home}/cache")
    with worker.serving():
        derivations = [worker.derivation(f"job.n{number}") for number in NUMBERS]
        builds = [worker.start(drv, f"build-{number}") for number, drv in zip(NUMBERS, derivations, strict=True)]
        built = [worker.finish(build) for build in builds]
        nothing_is_left(worker)
    assert len(set(built)) == len(NUMBERS)
    together = sum(lake.asked().values()) - alone
    assert together <= 1.05 * alone
    assert inputs.nar("unread") not in lake.asked()
    assert all(worker.report(f"build-{number}")["read_bytes"] >= 10_000_000 for number in NUMBERS)


def test_nothing_is_left_of_a_build_that_is_killed(machine: World, worker: Worker) -> None:
    upper = worker.home / "endless/nix/upper"
    with worker.serving():
        build = worker.start(worker.derivation("endless"), "endless")
        wait_for(lambda: any(upper.glob("*-endless")))
        (inside,) = Path(f"/proc/{build.pid}/task/{build.pid}/children").read_text().split()
        build.kill()
        build.communicate()
        nothing_is_left(worker)
        wait_for(lambda: not Path(f"/proc/{inside}").exists())
        machine.run("rm", "-r", worker.home / "endless")


def test_a_build_that_fails_says_why_and_pushes_nothing(lake: Served, worker: Worker) -> None:
    with worker.serving():
        before = set(lake.directory.iterdir())
        build = worker.start(worker.derivation("failing"), "failing")
        _, said = build.communicate(timeout=60)
        assert build.returncode != 0
        assert b"no such luck" in said
        nothing_is_left(worker)
        assert set(lake.directory.iterdir()) == before
