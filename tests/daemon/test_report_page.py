"""Reports as pictures: every tile in its place and as large as it should be, and no name that does anything."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import combinations
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.daemon.reports.keeping import keep_page, keeping
from narfs.daemon.reports.page import page
from narfs.daemon.reports.table import sums, table
from narfs.daemon.reports.tiles import HEIGHT, WIDTH, shade, tiles
from narfs.daemon.reports.timeline import timeline, waiting
from narfs.daemon.reports.treemap import Rect, squarify
from narfs.daemon.reports.words import duration, grouped, package, share, shortened
from narfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

HASH = "0" * 32
HOSTILE = (
    "</script><script>alert(1)</script>",
    "</title></svg><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "' & &amp; <!--",
    "\u202egnp.exe",
    "עברית/العربية",
    "\x1b[31mred\x00\r\n",
    "\udcff\ud800\u2028\u200f",
    "a" * 255,
    "日本語",
)


def path(name: str, state: str = "read", nar_bytes: int = 1000, **more: Any) -> dict[str, Any]:
    read = nar_bytes // 2 if state == "read" else 0
    return {
        "path": f"/nix/store/{HASH}-{name}",
        "state": state,
        "nar_bytes": nar_bytes,
        "files": 10,
        "opened_files": 3 if read else 0,
        "read_bytes": read,
        "distinct_bytes": read,
        "waits": 0,
        "waited_s": 0.0,
        "fetched_requests": 1,
        "fetched_bytes": read // 2,
        "wasted_bytes": read // 8,
        "same_nar_as": None,
        **more,
    }


def miss(name: str = "a", file: str | None = "bin/a", at_s: float = 0.0, waited_s: float = 0.1) -> dict[str, Any]:
    where = {"path": f"/nix/store/{HASH}-{name}", "file": file, "start": 0, "length": 4096}
    return {"at_s": at_s, "waited_s": waited_s, **where}


def report(*paths: dict[str, Any], misses: tuple[dict[str, Any], ...] = (), name: str = "build") -> dict[str, Any]:
    unread = [each for each in paths if each["state"] == "unread"]
    total = {
        member: sum(each[member] for each in paths)
        for member in ("nar_bytes", "opened_files", "read_bytes", "distinct_bytes", "wasted_bytes", "fetched_bytes")
    }
    return {
        "name": name,
        "age_s": 10.0,
        "paths": list(paths),
        "read_paths": sum(each["state"] == "read" for each in paths),
        "unread_paths": len(unread),
        "unread_nar_bytes": sum(each["nar_bytes"] for each in unread),
        "waits": len(misses),
        "waited_s": sum(each["waited_s"] for each in misses),
        "fetched_requests": 7,
        "misses": list(misses),
        "left_out": 0,
        **total,
    }


areas = st.lists(st.floats(1, 1e15), min_size=1, max_size=60).map(lambda each: sorted(each, reverse=True))


@given(areas, st.floats(10, 2000), st.floats(10, 2000))
def test_a_treemap_fills_its_rectangle_and_no_two_overlap(
    given_areas: list[float], width: float, height: float
) -> None:
    within = Rect(7, 11, width, height)
    rects = squarify(given_areas, within)
    near = 1e-6 * max(width, height)
    assert len(rects) == len(given_areas)
    for area, rect in zip(given_areas, rects, strict=True):
        assert rect.width * rect.height == pytest.approx(
            area / sum(given_areas) * width * height, rel=1e-3, abs=1e-6 * width * height
        )
        assert rect.x >= within.x - near
        assert rect.y >= within.y - near
        assert rect.x + rect.width <= within.x + width + near
        assert rect.y + rect.height <= within.y + height + near
    for one, other in combinations(rects, 2):
        across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert across <= near or down <= near


@pytest.mark.parametrize("place", [Rect(0, 0, 0, 10), Rect(0, 0, 10, 0)])
def test_where_there_is_no_room_there_is_nothing_of_all(place: Rect) -> None:
    assert squarify([2, 1], place) == [place, place]
    assert squarify([], place) == []


def test_equal_areas_are_about_square() -> None:
    assert all(
        rect.width / rect.height == pytest.approx(1.25, abs=0.5) for rect in squarify([1] * 12, Rect(0, 0, 4, 3))
    )


def test_tiles_are_as_large_as_their_nars() -> None:
    drawn = ET.fromstring(tiles(report(path("a", nar_bytes=3_000_000), path("b", "unread", 1_000_000))))  # noqa: S314 - ours
    found = {
        group.get("class"): float(rect.get("width") or 0) * float(rect.get("height") or 0)
        for group in drawn.findall("g")
        for rect in group.findall("rect")
    }
    assert found.keys() == {"s4", "unread"}
    assert found["s4"] / found["unread"] == pytest.approx(3, rel=0.1)
    assert sum(found.values()) == pytest.approx(WIDTH * HEIGHT, rel=0.1)


def test_many_paths_are_a_thousand_tiles_and_one_of_the_rest() -> None:
    drawn = tiles(report(*(path(f"p{number}", nar_bytes=10_000 - number) for number in range(3000))))
    assert drawn.count("<title>") == 1001
    assert "2 000 smaller paths" in drawn


def test_shades() -> None:
    assert [shade(read) for read in (0, 0.009, 0.01, 0.05, 0.2, 0.5, 0.8, 1)] == [0, 0, 1, 2, 3, 4, 5, 5]


def test_two_who_wait_at_once_wait_once() -> None:
    misses = [miss(at_s=5, waited_s=1), miss(at_s=1, waited_s=2), miss(at_s=2, waited_s=2), miss(at_s=4, waited_s=0.5)]
    assert waiting(misses) == [(1, 4.5), (5, 6)]


def test_a_timeline_has_a_row_for_each_of_the_longest_and_one_for_the_others() -> None:
    misses = [miss(f"p{number:02}", at_s=40 - number, waited_s=1 + number) for number in range(40)]
    labels = re.findall(r'class="label"[^>]*>([^<]*)<', timeline(misses))
    assert labels == ["anybody", *(f"p{number:02}" for number in range(39, 9, -1)), "10 other paths"]


def test_waits_that_the_eye_cannot_tell_apart_are_one_bar() -> None:
    misses = [miss(at_s=number * 0.0001, waited_s=0.0001) for number in range(10_000)] + [miss(at_s=9, waited_s=0.5)]
    drawn = timeline(misses)
    assert drawn.count('<g class="contents">') == 2
    assert "10 000 waits, 1 s in all" in drawn


def test_one_wait_is_drawn_too() -> None:
    assert "4 KiB of bin/a" in timeline([miss(waited_s=0.001)])


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def check_harmless(text: str) -> None:
    tags = Tags()
    tags.feed(text)
    usual = (
        "html head meta title style body main h1 h2 p b i dl div dt dd figure figcaption ul li details summary table"
    )
    usual += " thead tbody tr th td small span bdi footer svg defs pattern rect g text line"
    assert tags.tags <= set(usual.split())
    known = "lang charset http-equiv content name class viewbox role aria-label id width height patternunits"
    known += " patterntransform rx x y x1 x2 y1 y2 style open"
    assert tags.attributes <= set(known.split())
    assert all(character.isprintable() or character == "\n" for character in text)
    assert not re.search(r"url\((?!#)|@import", "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL)))
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)  # noqa: S314 - ours
    assert re.search(r"<!doctype html>.*<svg.*</html>\n", text, re.DOTALL)


@pytest.mark.parametrize("strange", HOSTILE)
def test_no_name_gets_out_of_its_place(strange: str) -> None:
    shared = path("shared", "shared", same_nar_as=strange)
    told = report(
        path(strange), path(strange, "unread"), path("empty", "empty"), shared, misses=(miss(strange, strange),),
        name=strange,
    )  # fmt: skip
    check_harmless(page(told))
    assert all(line.isprintable() for line in table(told) if strange not in line)


@given(st.text(st.characters(), max_size=20))
def test_no_text_gets_out_of_its_place(strange: str) -> None:
    check_harmless(page(report(path(strange), path("b", "unread"), misses=(miss("a", strange),), name=strange)))


def test_a_page_says_what_one_wants_to_know() -> None:
    text = page(report(path("gcc-13", nar_bytes=1 << 20), path("perl-5", "unread", 3 << 20), misses=(miss("gcc-13"),)))
    assert "<b>1 path</b> of 2 never read: 75 % of the closure." in text
    assert "<h2>Never read</h2>" in text
    assert "prefers-color-scheme:dark" in text


def test_pages_of_views_of_which_little_is_known() -> None:
    for told in (report(), report(path("a", "unread")), report(path("a"), path("b", files=None))):
        assert "<h1>" in page(told)
        assert list(table(told)) or not told["paths"]
    assert "Nothing was read of it yet." in page(report(path("a", "unread")))
    assert "Every path that has files was read." in page(report(path("a"), path("b", "empty")))


def test_the_table_has_what_was_read_and_then_what_never_was() -> None:
    told = report(path("a", nar_bytes=1000), path("b", nar_bytes=3000), path("c", "unread"), path("d", "unread", 5000))
    lines = list(table(told))
    assert [line.rpartition("-")[2] for line in lines if "/nix" in line] == ["b", "a", "d", "c"]
    assert "never read:" in lines
    assert sums(told).startswith("6 files, 1.95 KiB of 2 paths read; 2 paths never read (5.86 KiB); ")


def test_words() -> None:
    assert [share(part, 1000) for part in (0, 0.5, 5, 52, 520, 999.5, 1000)] == [
        "0 %", "< 0.1 %", "0.5 %", "5.2 %", "52 %", "> 99.9 %", "100 %",
    ]  # fmt: skip
    assert (share(1, 0), share(998, 10_000)) == ("0 %", "10 %")
    assert [duration(each) for each in (0, 0.0005, 0.0123, 0.9999, 1.5, 119, 240, 8000, 864000)] == [
        "0 µs", "500 µs", "12.3 ms", "1 s", "1.5 s", "119 s", "4 min", "2.22 h", "10 d",
    ]  # fmt: skip
    assert package(f"/nix/store/{HASH}-a-1") == "a-1"
    assert [shortened("abcdefghij", chars) for chars in (10, 9, 6)] == ["abcdefghij", "abcdefgh…", ""]
    assert grouped(1234567) == "1 234 567"


def test_reports_are_kept_as_pages_or_as_json(tmp_path: Path) -> None:
    told = report(path("a"))
    files = tmp_path / "a.html", tmp_path / "a.json"
    with keeping(files) as keep:
        keep(told)
    assert files[0].read_text() == page(told)
    assert json.loads(files[1].read_text()) == told
    keep_page(told, files[1])
    assert files[1].read_text() == page(told)


def test_a_file_that_cannot_be_written_is_known_before_it_is_too_late(tmp_path: Path) -> None:
    for write in (lambda file: keep_page(report(), file), lambda file: keeping([file]).__enter__()):
        with pytest.raises(UsageError, match=r"cannot be written"):
            write(tmp_path / "none" / "a.html")
