"""``python -m benchmarks.noting``: narfs that adds up the processor time of noting reads, and writes it down.

What asking the clock costs is taken off: it is measured in the same way around a call that does nothing, now and then,
because beside the copying of 128 KiB it costs more than in a loop of its own.
"""

from __future__ import annotations

import atexit
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narfs.cli import main
from narfs.mount.reads import Reads

if TYPE_CHECKING:
    from collections.abc import Callable

NOTED = "NARFS_BENCHMARK_NOTED"
"""In the environment: the file to write to."""

_EACH = 7
"""One of so many notes is done untimed, behind a call that does nothing and is timed in its place. No divisor of 32, or
the notes that settle would be among them always or never."""


class _Sums:
    notes = 0
    timed = 0
    timed_s = 0.0
    nothing = 0
    nothing_s = 0.0


def _timed(note: Callable[..., None]) -> Callable[..., None]:
    def timed(*args: Any) -> None:
        _Sums.notes += 1
        if _Sums.notes % _EACH:
            begun = time.thread_time()
            note(*args)
            _Sums.timed_s += time.thread_time() - begun
            _Sums.timed += 1
            return
        begun = time.thread_time()
        _nothing(*args)
        _Sums.nothing_s += time.thread_time() - begun
        _Sums.nothing += 1
        note(*args)

    return timed


def _nothing(*_args: Any) -> None:
    pass


def _write() -> None:
    """Write the seconds of all notes, those not timed as the others."""
    each_s = _Sums.timed_s / max(_Sums.timed, 1) - _Sums.nothing_s / max(_Sums.nothing, 1)
    said = {"notes": _Sums.notes, "seconds": each_s * _Sums.notes}
    Path(os.environ[NOTED]).write_text(json.dumps(said), encoding="ascii")


if __name__ == "__main__":
    Reads.later = _timed(Reads.later)  # type: ignore[assignment,method-assign]
    atexit.register(_write)
    main()
