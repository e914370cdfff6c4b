"""How far long work is, for who waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is, in NAR bytes; ``total_bytes`` is None while trees are read to be named."""

    subject: str
    done_bytes: int
    total_bytes: int | None


class Meter:
    """Adds up what passes of all NARs; a byte is done when it has passed ``passes`` times: packed, then sent."""

    def __init__(self, progress: Callable[[Progress], None], total_bytes: int | None, *, passes: int = 1) -> None:
        self._progress = progress
        self._total_bytes = total_bytes
        self.passes = passes
        self._passed = 0

    def subject(self, name: str) -> Callable[[int], None]:
        """Give the function that counts what passes of ``name``."""

        def advance(passed: int) -> None:
            self._passed += passed
            self._progress(Progress(name, self._passed // self.passes, self._total_bytes))

        return advance
