"""A Report for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from narfs.daemon.reports.words import count, duration, share
from narfs.daemon.sizes import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HEAD = ("read", "of", "", "files", "fetched", "wasted", "waited", "path")


def table(told: Mapping[str, Any]) -> Iterator[str]:
    """Give its lines: what was read, most first, then what never was, largest first."""
    read = [path for path in told["paths"] if path["state"] == "read"]
    unread = [path for path in told["paths"] if path["state"] == "unread"]
    rows = [_HEAD, *(_row(path) for path in sorted(read, key=lambda path: -path["distinct_bytes"]))]
    if read:
        yield from _aligned(rows)
    if unread:
        yield "never read:"
        yield from _aligned(
            [
                (in_words(path["nar_bytes"]), path["path"])
                for path in sorted(unread, key=lambda each: -each["nar_bytes"])
            ]
        )


def sums(told: Mapping[str, Any]) -> str:
    """Say all in one line."""
    return (
        f"{count(told['opened_files'], 'file')}, {in_words(told['distinct_bytes'])} of"
        f" {count(told['read_paths'], 'path')} read; {count(told['unread_paths'], 'path')} never read"
        f" ({in_words(told['unread_nar_bytes'])}); {in_words(told['fetched_bytes'])} fetched in"
        f" {count(told['fetched_requests'], 'request')}, {in_words(told['wasted_bytes'])} of that never read"
    )


def _row(path: Mapping[str, Any]) -> Sequence[str]:
    return (
        in_words(path["distinct_bytes"]),
        in_words(path["nar_bytes"]),
        share(path["distinct_bytes"], path["nar_bytes"]),
        str(path["opened_files"]) if path["files"] is None else f"{path['opened_files']}/{path['files']}",
        in_words(path["fetched_bytes"]),
        in_words(path["wasted_bytes"]),
        duration(path["waited_s"]) if path["waits"] else "",
        path["path"],
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Line up columns at their right ends, the last at its left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *numbers, last = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join((*numbers, last.lstrip()))
