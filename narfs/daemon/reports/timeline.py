"""What was waited for in a View, over time: a row for each path, a bar for each wait. Pure."""

from __future__ import annotations

from itertools import groupby
from math import floor, log10
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from narfs.daemon.reports.words import count, duration, marked_up, package, shortened
from narfs.daemon.sizes import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH: Final = 1120.0
_LABELS: Final = 250.0
_SUMS: Final = 76.0
_ROW: Final = 20.0
_TOP: Final = 26.0
_MOST_ROWS: Final = 30
"""Paths that were waited for longest; the others share a row."""
_BAR_MIN: Final = 1.5
_TICKS: Final = 8


class _Bar(NamedTuple):
    """Waits that are one to the eye."""

    start: float
    end: float
    waits: list[Mapping[str, Any]]


class Wait(NamedTuple):
    """Seconds in which somebody waited."""

    start_s: float
    end_s: float


def waiting(misses: Sequence[Mapping[str, Any]]) -> list[Wait]:
    """Give the times in which at least one waited."""
    times: list[Wait] = []
    for start_s, end_s in sorted((miss["at_s"], miss["at_s"] + miss["waited_s"]) for miss in misses):
        if times and start_s <= times[-1].end_s:
            times[-1] = Wait(times[-1].start_s, max(times[-1].end_s, end_s))
        else:
            times.append(Wait(start_s, end_s))
    return times


def timeline(misses: Sequence[Mapping[str, Any]]) -> str:
    """Draw them, at least one."""
    rows = list(_rows(misses))
    times = waiting(misses)
    start_s, end_s = times[0].start_s, times[-1].end_s
    per_s = (WIDTH - _LABELS - _SUMS) / max(end_s - start_s, 0.001)
    height = _TOP + _ROW * (len(rows) + 1)
    parts = list(_axis(start_s, end_s, per_s, height))
    y = _TOP + 2
    parts += (
        f'<rect class="any" x="{_LABELS + (start - start_s) * per_s:.1f}" y="{y + 4:.1f}"'
        f' width="{max((end - start) * per_s, _BAR_MIN):.1f}" height="{_ROW - 12:.0f}"/>'
        for start, end in times
    )
    parts.append(_label("anybody", sum(end - start for start, end in times), y))
    for label, waits in rows:
        y += _ROW
        parts.append(_label(label, sum(wait["waited_s"] for wait in waits), y))
        parts += (_drawn(bar, y) for bar in _bars(waits, start_s, per_s))
    return (
        f'<svg class="times" viewBox="0 0 {WIDTH:g} {height + 4:g}" role="img" aria-label="Waits over time">\n'
        + "\n".join(parts)
        + "</svg>"
    )


def _rows(misses: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Give the waits of each path by when the first began; those that were waited for least are one row, the last."""
    by_path = {
        path: list(waits)
        for path, waits in groupby(sorted(misses, key=lambda miss: (miss["path"], miss["at_s"])), lambda m: m["path"])
    }
    longest = sorted(by_path, key=lambda path: -sum(wait["waited_s"] for wait in by_path[path]))
    for path in sorted(longest[:_MOST_ROWS], key=lambda path: by_path[path][0]["at_s"]):
        yield package(path), by_path[path]
    if others := longest[_MOST_ROWS:]:
        waits = [wait for path in others for wait in by_path[path]]
        yield f"{len(others)} other paths", sorted(waits, key=lambda wait: wait["at_s"])


def _bars(waits: Sequence[Mapping[str, Any]], start_s: float, per_s: float) -> Iterator[_Bar]:
    """Join waits that begin where the one before ends, or so little later that nobody could see a gap."""
    bar: _Bar | None = None
    for wait in waits:
        start = _LABELS + (wait["at_s"] - start_s) * per_s
        end = start + max(wait["waited_s"] * per_s, _BAR_MIN)
        if bar is not None and start < bar.end + 1:
            bar.waits.append(wait)
            bar = _Bar(bar.start, max(bar.end, end), bar.waits)
            continue
        if bar is not None:
            yield bar
        bar = _Bar(start, end, [wait])
    if bar is not None:
        yield bar


def _drawn(bar: _Bar, y: float) -> str:
    kind = "tree" if any(wait["file"] is None for wait in bar.waits) else "contents"
    lines = [_told(wait) for wait in bar.waits[:8]]
    if len(bar.waits) > 1:
        waited_s = sum(wait["waited_s"] for wait in bar.waits)
        lines.insert(0, f"{count(len(bar.waits), 'wait')}, {duration(waited_s)} in all")
    if len(bar.waits) > 8:
        lines.append("…")
    title = "\n".join(map(marked_up, lines))
    return (
        f'<g class="{kind}"><title>{title}</title><rect x="{bar.start:.1f}" y="{y + 2:.1f}"'
        f' width="{bar.end - bar.start:.1f}" height="{_ROW - 7:.0f}" rx="1.5"/></g>'
    )


def _told(wait: Mapping[str, Any]) -> str:
    """Say when, what, and how long."""
    what = "its tree" if wait["file"] is None else f"{in_words(wait['length'])} of {wait['file'] or 'the file'}"
    return f"{duration(wait['at_s'])}: {duration(wait['waited_s'])} for {what} ({package(wait['path'])})"


def _label(text: str, waited_s: float, y: float) -> str:
    shown = marked_up(shortened(text, int((_LABELS - 12) / 7)))
    return (
        f'<text class="label" x="{_LABELS - 10:g}" y="{y + 13:.1f}">{shown}</text>'
        f'<text class="sum" x="{WIDTH:g}" y="{y + 13:.1f}">{duration(waited_s)}</text>'
    )


def _axis(start_s: float, end_s: float, per_s: float, height: float) -> Iterator[str]:
    """Draw a line for each round number of seconds since the View began."""
    step = _round((end_s - start_s) / _TICKS)
    for number in range(int(start_s // step), int(end_s // step) + 1):
        at_s = number * step
        if at_s >= start_s:
            x = _LABELS + (at_s - start_s) * per_s
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4:g}" y2="{height:g}"/>'
            yield f'<text class="tick" x="{x:.1f}" y="{_TOP - 10:g}">{duration(at_s)}</text>'


def _round(step: float) -> float:
    """Give the next larger of 1, 2 and 5 with any number of zeros."""
    power: float = 10.0 ** floor(log10(max(step, 1e-4)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)
