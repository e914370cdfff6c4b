"""``narfs`` with a watched door: it stops at the n-th moment of a point, says so, and waits to be killed.

    python -m tests.crashes.victim "chunk write" 0 3 mount …     point, variant, n, and what narfs is told

Without a point (``-``) it is plain narfs.
"""

from __future__ import annotations

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


if __name__ == "__main__":
    _, point, variant, nth, *arguments = sys.argv
    if point != "-":
        stop_at(point, int(variant), int(nth))
    assert threading.active_count() == 1
    main(arguments)
