"""``narfs`` with a watched door: it stops at the n-th moment of a point, says so, and waits to be killed.

    python -m tests.crashes.victim "chunk write" 0 3 mount …     point, variant, n, and what narfs is told

Without a point (``-``) it is plain narfs. ``files`` and ``memory`` let it have n descriptors, or n MiB of addresses;
``clock`` gives it a clock that jumps by years, forwards and back, at every look.
"""

from __future__ import annotations

import random
import resource
import sys
import threading
import time
from itertools import count
from typing import TYPE_CHECKING

from narfs.cli import main
from tests.crashes import door
from tests.crashes.points import meets

if TYPE_CHECKING:
    from tests.crashes.door import Moment

PAUSED = "paused\n"


def stop_at(point: str, variant: int, nth: int) -> None:
    """Stop whoever comes to the n-th moment, in whatever thread; the others go on."""
    passed = count(1)

    def watch(moment: Moment) -> None:
        if meets(moment, point, variant) and next(passed) == nth:
            sys.stdout.write(PAUSED)
            sys.stdout.flush()
            time.sleep(3600)

    door.install(watch)


def few_files(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def little_memory(most_mib: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (most_mib << 20, most_mib << 20))


def jumping_clock(seed: int) -> None:
    chance, true = random.Random(seed), time.time  # noqa: S311
    time.time = lambda: max(0.0, true() + chance.choice([-60, -20, 0, 0, 20, 60]) * YEAR_S)


YEAR_S = 365 * 86400.0
TROUBLES = {"files": few_files, "memory": little_memory, "clock": jumping_clock}

if __name__ == "__main__":
    _, point, variant, nth, *arguments = sys.argv
    if point in TROUBLES:
        TROUBLES[point](int(nth))
    elif point != "-":
        stop_at(point, int(variant), int(nth))
    assert threading.active_count() == 1
    main(arguments)
