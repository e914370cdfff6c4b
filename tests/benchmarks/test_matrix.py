"""How a matrix keeps to its time, and what becomes of an interruption."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import harness, matrix
from benchmarks.__main__ import BENCHMARKS, WANTS_S
from benchmarks.harness import Plan, Report
from benchmarks.proxy import Link

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Time that passes when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("benchmarks.harness.time.monotonic", clock)
    return clock


def test_time_is_divided_by_what_each_wants() -> None:
    clock = Clock()
    given = []
    for name, until in matrix.turns({"long": 30, "short": 10}, 80, clock):
        given.append((name, until))
        clock.now = until
    assert given == [("long", 60), ("short", 80)]


def test_what_one_does_not_need_goes_to_those_after_it() -> None:
    clock = Clock()
    turns = matrix.turns({"quick": 30, "a": 10, "b": 10}, 50, clock)
    assert next(turns) == ("quick", 30)
    clock.now = 10
    assert next(turns) == ("a", 30)


def test_who_comes_too_late_still_gets_a_turn() -> None:
    clock = Clock()
    turns = matrix.turns({"slow": 10, "late": 10}, 20, clock)
    next(turns)
    clock.now = 100
    assert next(turns) == ("late", 100)


def test_no_round_begins_that_would_pass_the_end(clock: Clock) -> None:
    rounds = []
    for number in Plan(quick=False, runs=5, ends_at=10).rounds():
        rounds.append(number)
        clock.now += 4
    assert rounds == [0, 1]


def test_there_is_one_round_however_late_it_is(clock: Clock) -> None:
    clock.now = 100
    assert list(Plan(quick=False, runs=5, ends_at=10).rounds()) == [0]


def test_parts_share_the_time_that_is_left(clock: Clock) -> None:
    ends = []
    for part, _ in Plan(quick=False, runs=5, ends_at=30).over("abc"):
        ends.append(part.ends_at)
        clock.now += 4
    assert ends == [10, 17, 30]


def test_everything_in_the_matrix_is_a_benchmark() -> None:
    assert set(WANTS_S) <= set(BENCHMARKS)


def test_what_was_measured_until_an_interruption_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    link = Link(0.010, 1e9)

    def measure() -> None:
        with Report("name", "a question", Plan(quick=False, runs=5)) as report:
            report.add("narfs", "run", "s", 1.5, link=link)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    (line,) = map(json.loads, (tmp_path / "name.jsonl").read_text().splitlines())
    assert line["values"] == [1.5]
    assert line["link"] == {"rtt_ms": 10, "mbit_s": 1000}
    assert line["parameters"]["interrupted_by"] == "KeyboardInterrupt"


def test_one_failure_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    class Module:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, plan: Plan) -> None:
            ran.append((self.name, plan.runs))
            if self.name == "bad" and len(ran) == 1:
                raise RuntimeError("broken")

    monkeypatch.setattr(matrix, "_DONE", tmp_path / "done")
    monkeypatch.setattr("benchmarks.matrix.importlib.import_module", Module)
    plan, names = Plan(quick=False, runs=5), {"bad": "bad", "good": "good"}
    wants = dict.fromkeys(names, 10)
    assert not matrix.run(plan, names, wants, 1, resume=False)
    assert ran == [("bad", 5), ("good", 5)]
    assert "broken" in capsys.readouterr().err

    assert matrix.run(plan, names, wants, 1, resume=True)
    assert ran[2:] == [("bad", 5)], "only what failed is measured again"
    assert not (tmp_path / "done").exists()
