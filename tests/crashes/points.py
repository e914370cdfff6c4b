"""Where a process is killed: the moments of its file work that a crash may fall into."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.crashes.door import Moment

POINTS: dict[str, list[tuple[str, str, str]]] = {
    # point: call, when, where; see ``meets``
    "chunk write": [("write", "before", "chunk"), ("write", "halfway", "chunk"), ("write", "after", "chunk")],
    "presence map": [
        ("write", "before", "bit"),
        ("write", "after", "bit"),
        ("rename", "before", "map"),
        ("rename", "after", "map"),
    ],
    "index rename": [
        ("rename", "after", "contents"),
        ("sync", "before", "scratch"),
        ("rename", "before", "index"),
        ("rename", "after", "index"),
    ],
    "eviction": [
        ("write", "halfway", "cleared"),
        ("write", "after", "cleared"),
        ("punch", "before", "contents"),
        ("punch", "after", "contents"),
        ("unlink", "after", "index"),
        ("unlink", "after", "map"),
        ("unlink", "before", "contents"),
    ],
    "publish": [
        ("write", "before", "blob"),
        ("write", "halfway", "blob"),
        ("sync", "after", "blob"),
        ("rename", "before", "blob"),
        ("rename", "after", "blob"),
        ("rename", "before", "seal"),
        ("rename", "after", "seal"),
        ("rename", "before", "narinfo"),
        ("rename", "after", "narinfo"),
    ],
}


def meets(moment: Moment, point: str, variant: int) -> bool:
    """Say whether this is a moment of a point."""
    call, when, where = POINTS[point][variant % len(POINTS[point])]
    return (moment.call, moment.when) == (call, when) and where in _places(moment)


def _places(moment: Moment) -> set[str]:
    """Say what a file is, and what is written to it."""
    path, *_ = moment.path.partition(".tmp.")
    places = {"scratch"} if "/scratch/" in path else set()
    if "/nar/" in path:
        for suffix, name in ((".nar", "contents"), (".map", "map"), (".index", "index")):
            if path.endswith(suffix):
                places.add(name)
    if "contents" in places and moment.call == "write":
        places.add("chunk")
    if "map" in places and moment.call == "write":
        places.add("bit" if moment.data[:1] == b"\1" else "cleared")
    if ".nar.zst" in path or path.endswith(".nar.none"):
        places.add("blob")
    if path.endswith(".narfs"):
        places.add("seal")
    if path.endswith(".narinfo"):
        places.add("narinfo")
    return places
