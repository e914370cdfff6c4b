"""The corpus: for each target the shortest inputs that together reach all that was ever reached.

A file for each, ``inputs/TARGET``, one input in base64 to a line, the shortest first.
"""

from __future__ import annotations

import base64
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.targets import TARGETS, judge

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

_DIRECTORY = Path(__file__).parent / "inputs"
MOST_BYTES = 40_000
"""Of one target's file."""


def read(target: str) -> list[bytes]:
    """Give what is kept for a target; of ``all`` everything, with the number of its target in front."""
    if target == "all":
        return [bytes([number]) + data for number, name in enumerate(TARGETS) for data in read(name)]
    with suppress(FileNotFoundError):
        return [base64.b64decode(line) for line in (_DIRECTORY / target).read_text().splitlines()]
    return []


def write(target: str, inputs: Iterable[bytes]) -> None:
    _DIRECTORY.mkdir(exist_ok=True)
    (_DIRECTORY / target).write_text("".join(f"{base64.b64encode(data).decode()}\n" for data in inputs))


def learned(directory: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(directory.iterdir())]


def smallest(target: str, inputs: Iterable[bytes]) -> list[bytes]:
    """Choose the shortest inputs that go every way from line to line that all of them go."""
    kept: list[bytes] = []
    gone: set[tuple[int, int, int]] = set()
    size = 0
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        ways = ways_of(target, data)
        if not ways <= gone and size + len(data) * 4 // 3 + 5 < MOST_BYTES:
            gone |= ways
            kept.append(data)
            size += len(data) * 4 // 3 + 5
    return kept


def ways_of(target: str, data: bytes) -> set[tuple[int, int, int]]:
    """Run a target; give each step from a line of narfs to the next one."""
    ways: set[tuple[int, int, int]] = set()
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> object:
        if "/narfs/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            ways.add((id(frame.f_code), last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]  # typeshed wants a type that only it can name
    try:
        judge(target, data)
    finally:
        sys.settrace(None)
    return ways
