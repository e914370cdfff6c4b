"""Build workers, by the recipe of docs/build-worker.md: view, overlay, build, push, report; and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nix.newer import each_nix
from tests.nix.workers import NUMBERS, SANDBOX_PATHS, Inputs, Served, Worker, wait_for
from tests.nix.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    with World(tmp_path_factory.mktemp("inputs")) as world:
        yield Inputs.build(world)


@pytest.fixture
def lake(inputs: Inputs, tmp_path: Path) -> Iterator[Served]:
    with inputs.served(tmp_path / "served") as served:
        yield served


@pytest.fixture(params=["tree", "erofs"])
def worker(machine: World, inputs: Inputs, lake: Served, request: pytest.FixtureRequest) -> Worker:
    return Worker(machine, lake, inputs, "--frontend", request.param)


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


@pytest.mark.parametrize("frontend", ["tree", "erofs"])
@pytest.mark.parametrize(
    ("machine", "local_overlay"),
    [("own", False), ("newer", True)],
    indirect=["machine"],
    ids=["registration", "local-overlay"],
)
def test_a_build_in_the_sandbox_sees_its_inputs_and_nothing_else(
    machine: World, inputs: Inputs, lake: Served, frontend: str, *, local_overlay: bool
) -> None:
    worker = Worker(machine, lake, inputs, "--frontend", frontend, sandbox=True, local_overlay=local_overlay)
    with worker.serving():
        built = worker.finish(worker.start(worker.derivation("looking"), "one"))
    upper = worker.home / "one/nix/upper" / built.rpartition("/")[2]
    of_nix = {"build", "dev", "etc", "nix", "proc", "tmp"}
    assert set((upper / "root").read_text().split()) == of_nix | {path[1:] for path in SANDBOX_PATHS}
    seen = {path.rpartition("/")[2] for name, path in inputs.paths.items() if name in ("compiler", "library")}
    assert set((upper / "store").read_text().split()) - {built.rpartition("/")[2]} == seen


def test_eight_builds_at_once_fetch_what_one_does(inputs: Inputs, lake: Served, worker: Worker) -> None:
    with worker.serving():
        worker.finish(worker.start(worker.derivation("job.n1"), "alone"))
        nothing_is_left(worker)
    alone = sum(lake.asked().values())
    worker.forget()
    with worker.serving():
        derivations = {number: worker.derivation(f"job.n{number}") for number in NUMBERS}
        builds = [worker.start(drv, f"build-{number}") for number, drv in derivations.items()]
        built = [worker.finish(build) for build in builds]
        nothing_is_left(worker)
    assert len(set(built)) == len(NUMBERS)
    together = sum(lake.asked().values()) - alone
    assert together <= 1.05 * alone
    assert inputs.nar("unread") not in lake.asked()
    reports = [worker.report(f"build-{number}") for number in NUMBERS]
    assert all(report["read_bytes"] >= 10_000_000 for report in reports)
    # Pushes ask the lake, too.
    assert sum(report["fetched_bytes"] for report in reports) == pytest.approx(together, rel=0.01)


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


@pytest.mark.parametrize("machine", ["newer"], indirect=True)
@pytest.mark.parametrize("frontend", ["tree", "erofs"])
def test_a_newer_nix_builds_without_a_registration(machine: World, inputs: Inputs, lake: Served, frontend: str) -> None:
    worker = Worker(machine, lake, inputs, "--frontend", frontend, local_overlay=True)
    with worker.serving():
        built = worker.finish(worker.start(worker.derivation("job.n1"), "one"))
        nothing_is_left(worker)
    assert built.endswith("-job-1")
    assert inputs.nar("unread") not in lake.asked()
    assert worker.report("one")["read_paths"] == 2
