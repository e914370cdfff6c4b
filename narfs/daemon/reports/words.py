"""Names of strangers and numbers, as people read them in a Report.

A name may hold anything but a slash and a zero. What a terminal or a browser would obey, or turn around, is written as
bytes; what HTML would take for markup is escaped. Letters that are written from right to left are harmless one by one,
but turn around what is beside them, so each text of a stranger stands in an element that isolates it.
"""

from __future__ import annotations

import html

from narfs.formats.quote import printable

_HASH_CHARS = 32 + 1
_STORE = "/nix/store/"


def marked_up(text: str) -> str:
    """Write any text so that HTML and SVG show it, in elements and in quoted attributes."""
    return html.escape(printable(text))


def package(path: str) -> str:
    """Give the name of a store path behind its hash."""
    return path.removeprefix(_STORE)[_HASH_CHARS:] or path


def shortened(text: str, chars: int) -> str:
    """Cut a text to so many characters; empty if too little would be left to know it by."""
    if len(text) <= chars:
        return text
    return text[: chars - 1] + "…" if chars >= 7 else ""


def count(number: int, what: str) -> str:
    """Write how many of something there are."""
    return f"{grouped(number)} {what}{'' if number == 1 else 's'}"


def grouped(number: int) -> str:
    """Write a number with spaces between thousands."""
    return f"{number:,}".replace(",", " ")


def share(part: float, whole: float) -> str:
    """Write a share in percent; a small one is not nothing, a large one not all."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent >= 9.95 or not percent else f"{percent:.1f} %"


def duration(seconds: float) -> str:
    """Write a duration with two or three digits and a unit."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:  # 1000 ms would be 1e+03
        return f"{seconds * 1000:.3g} ms"
    for unit, length_s, end_s in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < end_s:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds / 86_400:.0f} d"
