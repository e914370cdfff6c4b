"""The closure of a View as a treemap: a tile for each path, as large as its NAR, the darker the more of it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from narfs.daemon.reports.treemap import Rect, squarify
from narfs.daemon.reports.words import count, duration, grouped, marked_up, package, share, shortened
from narfs.daemon.sizes import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH: Final = 1120.0
HEIGHT: Final = 560.0

STEPS: Final = (0.01, 0.05, 0.2, 0.5, 0.8)
"""Shares of a NAR at which the next shade begins."""

_GROUPS: Final = {"read": "read", "unread": "never read", "empty": "no contents", "shared": "the same NAR as another"}
_MOST_TILES: Final = 1000
"""Of one group; smaller paths are one tile together. 1000 tiles are 400 KB."""
_HEADER: Final = 24.0
_GAP: Final = 1.0
_TEXTS: Final = {"group": (0, 16, 13), "name": (5, 14, 12), "detail": (5, 29, 11)}
"""From the left, from above, and height of letters; the style has the heights, too."""
_LETTER_WIDTH: Final = 0.58
"""Of the height of letters, in the mean of those that names are made of."""


class _Tile(NamedTuple):
    kind: str
    nar_bytes: int
    label: str
    detail: str
    told: Sequence[str]


def shade(read: float) -> int:
    """Give the number of the shade of a share that was read, from 0 on."""
    return sum(read >= step for step in STEPS)


def tiles(told: Mapping[str, Any]) -> str:
    """Draw the paths of a report in groups: read, never read, and those that there is nothing to read of."""
    by_group = {state: [path for path in told["paths"] if path["state"] == state] for state in _GROUPS}
    groups = sorted(
        ((sum(path["nar_bytes"] for path in paths), state) for state, paths in by_group.items() if paths), reverse=True
    )
    places = squarify([max(nbytes, 1) for nbytes, _ in groups], Rect(0, 0, WIDTH, HEIGHT))
    drawn = [
        part
        for (nbytes, state), place in zip(groups, places, strict=True)
        for part in _group(state, nbytes, by_group[state], place)
    ]
    return (
        f'<svg class="tiles" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="Treemap of the closure">\n'
        '<defs><pattern id="never" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="never" width="7" height="7"/><rect class="hatch" width="2" height="7"/></pattern></defs>\n'
        + "".join(drawn)
        + "</svg>"
    )


def _group(state: str, nbytes: int, paths: Sequence[Mapping[str, Any]], place: Rect) -> Iterator[str]:
    place = place.inset(3)
    header = _HEADER if place.height > 3 * _HEADER else 0.0
    if header:
        name = _GROUPS[state]
        longer = (f"{name}: {count(len(paths), 'path')}, {in_words(nbytes)}", f"{name}: {in_words(nbytes)}", name)
        yield next((drawn for words in longer if (drawn := _text(place, words, "group", whole=True))), "")
    inner = Rect(place.x, place.y + header, place.width, place.height - header)
    chosen = list(_chosen(state, sorted(paths, key=lambda path: -path["nar_bytes"])))
    for tile, rect in zip(chosen, squarify([max(tile.nar_bytes, 1) for tile in chosen], inner), strict=True):
        yield _drawn(tile, rect.inset(min(_GAP, rect.width / 6, rect.height / 6)))


def _chosen(state: str, paths: Sequence[Mapping[str, Any]]) -> Iterator[_Tile]:
    for path in paths[:_MOST_TILES]:
        yield _tile(path)
    if rest := paths[_MOST_TILES:]:
        nbytes, read = (sum(path[member] for path in rest) for member in ("nar_bytes", "distinct_bytes"))
        words = f"{grouped(len(rest))} smaller paths"
        kind = f"s{shade(read / max(nbytes, 1))}" if state == "read" else state
        yield _Tile(kind, nbytes, words, in_words(nbytes), (words, in_words(nbytes), f"{in_words(read)} read"))


def _tile(path: Mapping[str, Any]) -> _Tile:
    read, nbytes, state = path["distinct_bytes"], path["nar_bytes"], path["state"]
    part = share(read, nbytes)
    kind = f"s{shade(read / max(nbytes, 1))}" if state == "read" else state
    detail = f"{part} of {in_words(nbytes)}" if state == "read" else in_words(nbytes)
    return _Tile(kind, nbytes, package(path["path"]), detail, _told(path, part))


def _told(path: Mapping[str, Any], part: str) -> Sequence[str]:
    """Say all of a path, line by line, for whoever points at it."""
    files = "" if path["files"] is None else f" of {grouped(path['files'])}"
    lines = [path["path"], f"{in_words(path['nar_bytes'])} NAR"]
    if path["state"] == "read":
        lines.append(f"read: {in_words(path['distinct_bytes'])}, {part}; files: {grouped(path['opened_files'])}{files}")
    elif path["state"] == "shared":
        lines.append(f"same NAR as {path['same_nar_as']}, where its reads are counted")
    else:
        lines.append("never read" if path["state"] == "unread" else "holds no file with contents")
    if path["fetched_bytes"]:
        wasted = f", {in_words(path['wasted_bytes'])} of that never read" if path["wasted_bytes"] else ""
        requests = count(path["fetched_requests"], "request")
        lines.append(f"fetched: {in_words(path['fetched_bytes'])} in {requests}{wasted}")
    if path["waits"]:
        lines.append(f"waited: {duration(path['waited_s'])} in {count(path['waits'], 'wait')}")
    return lines


def _drawn(tile: _Tile, rect: Rect) -> str:
    texts = ""
    if rect.height > 17 and rect.width > 30:
        texts = _text(rect, tile.label, "name")
        if texts and rect.height > 34:
            texts += _text(rect, tile.detail, "detail", whole=True)
    title = "\n".join(map(marked_up, tile.told))
    return (
        f'<g class="{tile.kind}"><title>{title}</title>'
        f'<rect x="{rect.x:.1f}" y="{rect.y:.1f}" width="{rect.width:.1f}" height="{rect.height:.1f}" rx="2"/>'
        f"{texts}</g>\n"
    )


def _text(rect: Rect, text: str, kind: str, *, whole: bool = False) -> str:
    """Write a text where texts of its kind stand in a rectangle, as much of it as has room, or all or nothing."""
    x, y, height = _TEXTS[kind]
    shown = shortened(text, int((rect.width - 2 * x) / (height * _LETTER_WIDTH)))
    if not shown or (whole and shown != text):
        return ""
    return f'<text class="{kind}" x="{rect.x + x:.1f}" y="{rect.y + y:.1f}">{marked_up(shown)}</text>'
