"""Results become tables and pictures; the same results become the same bytes."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import figures, tables
from benchmarks.plot import Plot, Series, spread
from benchmarks.proxy import Link
from benchmarks.results import newest, number

if TYPE_CHECKING:
    from pathlib import Path

_SVG = "{http://www.w3.org/2000/svg}"


def _line(subject: str, measure: str, *values: float, **more: Any) -> str:
    facts: dict[str, Any] = {
        "benchmark": "b1",
        "unit": "s",
        "target": None,
        "link": None,
        "parameters": {"runs": 3},
        "date": "2026-01-02T03",
    }
    middle = sorted(values)[len(values) // 2]
    measured = {"values": values, "median": middle, "min": min(values), "max": max(values)}
    return json.dumps({"subject": subject, "measure": measure, **facts, **measured, **more}) + "\n"


def _link(rtt_ms: float, mbit_s: float | None = 1000.0) -> dict[str, Any]:
    return {"rtt_ms": rtt_ms, "mbit_s": mbit_s}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    lines = [
        _line("narfs sealed", "cold run", 9.0, date="2025-01-01T00", link=_link(1)),
        _line("narfs sealed", "cold run", 1.0, 3.0, 2.0, link=_link(10)),
        _line("narfs sealed", "cold run", 1.5, link=_link(0.2)),
        _line("narfs sealed", "cold run", 5.0, link=_link(10, None)),
        _line("rclone", "cold run", 7.0, link=_link(10), target=2.0),
        _line("narfs sealed ÷ rclone", "cold run", 0.5, link=_link(10)),
        _line("curl | zstd", "read", 3.0, link=_link(10)),
        _line("ext4", "find -ls, warm", 1234.5, unit="µs"),
    ]
    (tmp_path / "b1.jsonl").write_text("".join(lines))
    return tmp_path


def _filled(results: Path, what: str) -> list[str]:
    document = results / "document.md"
    document.write_text(f"before\n<!-- table {what} -->\nold\n<!-- /table -->\nafter\n")
    tables.fill(document, partial(newest, folder=results))
    once = document.read_text()
    tables.fill(document, partial(newest, folder=results))
    assert document.read_text() == once
    lines = once.splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    return [line for line in lines if line.startswith("|")]


def test_only_the_newest_run_counts(results: Path) -> None:
    run = newest("b1", results)
    assert run is not None
    assert run.find("narfs sealed", "cold run", Link(0.001, 1e9)) is None
    assert run.find("narfs sealed", "cold run", Link(0.010, math.inf)) is not None


def test_a_table_by_link_has_a_column_for_each(results: Path) -> None:
    assert _filled(results, "b1 by link: cold run") == [
        "| s | 0.2 ms, 1000 Mbit/s | 10 ms, 1000 Mbit/s | 10 ms, unlimited |",
        "| --- | --- | --- | --- |",
        "| narfs sealed | 1.5 | 2 (1–3) | 5 |",
        "| rclone |  | **7 (≤ 2)** |  |",
    ]


def test_a_table_by_subject_has_a_row_for_each_measure(results: Path) -> None:
    assert _filled(results, "b1 by subject: find -ls, warm") == [
        "|  | ext4 |",
        "| --- | --- |",
        "| find -ls, warm, µs | 1 234 |",
    ]


def test_ratios_have_a_table_of_their_own(results: Path) -> None:
    assert _filled(results, "b1 ratios by link: cold run")[2:] == ["| narfs sealed ÷ rclone | 0.5 |"]


def test_a_measure_that_was_not_measured_leaves_what_is_there(results: Path) -> None:
    assert _filled(results, "b1 by link: warm run") == []


def test_a_bar_in_a_name_is_no_end_of_a_cell(results: Path) -> None:
    assert _filled(results, "b1 by link: read")[2:] == [r"| curl \| zstd | 3 |"]


def test_competitors_that_were_measured_say_what_they_lack(results: Path) -> None:
    (row,) = _filled(results, "b1 lacks")[2:]
    assert row.startswith("| rclone | verification")


def test_a_document_keeps_what_was_never_measured(results: Path) -> None:
    document = results / "document.md"
    document.write_text(text := "<!-- table b4 by subject -->\nby hand\n<!-- /table -->\n")
    tables.fill(document, partial(newest, folder=results))
    assert document.read_text() == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (12.0, "12"), (999.6, "1 000"), (56_376_639, "56 376 639")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_picture_has_a_line_and_a_name_for_each_subject_with_two_points(results: Path) -> None:
    drawn = figures.draw(results)
    assert [file.name for file in drawn] == ["b1-run.svg"]
    svg = drawn[0].read_text()
    root = ET.fromstring(svg)  # noqa: S314 - our own
    assert len(root.findall(f"{_SVG}path[@class='line']")) == 1
    assert [text.text for text in root.findall(f"{_SVG}text[@class='name']")] == ["narfs, first start"]
    assert "prefers-color-scheme:dark" in svg
    figures.draw(results)
    assert drawn[0].read_text() == svg


def test_a_document_shows_a_picture_once_it_is_drawn(results: Path) -> None:
    document = results / "docs/document.md"
    document.parent.mkdir()
    document.write_text(text := "<!-- picture b1-run.svg: seconds -->\n<!-- /picture -->\n")
    figures.show(document, results)
    assert document.read_text() == text
    figures.draw(results)
    for _ in range(2):
        figures.show(document, results)
        assert document.read_text().splitlines()[2] == "![seconds](../b1-run.svg)"


def test_a_constant_ratio_is_a_constant_distance() -> None:
    plot = Plot("", "x", "y", [Series("a", [(1, 1), (10, 10)]), Series("b", [(1, 2), (10, 20)])])
    root = ET.fromstring(plot.svg())  # noqa: S314 - our own
    left, right = [[float(c.get("cy", "")) for c in root.findall(f"{_SVG}circle")[n::2]] for n in (0, 1)]
    assert left[0] - left[1] == pytest.approx(right[0] - right[1], abs=0.2)


def test_labels_do_not_cover_one_another() -> None:
    assert spread([100, 50, 101, 102], 15) == [100, 50, 115, 130]
