"""Time and size of EROFS images: made of a listing on one core, and joined of ready parts."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Report
from benchmarks.nar_parse import index, small_files
from narfs.formats.erofs.image import FIRST_PART_BLOCK, head, root_of
from narfs.formats.erofs.ondisk import BLOCK_BYTES
from narfs.formats.erofs.part import Layout

if TYPE_CHECKING:
    from benchmarks.harness import Plan

_PATHS = 300


def run(plan: Plan) -> None:
    """Measure processor time of making, and of joining the time that passes, with the file it writes."""
    report = Report("erofs_image", "How long does an EROFS image take?", plan, paths=_PATHS)
    large = index(small_files(plan.size(100_000, 2_000))).finish()
    small = Layout(index(small_files(100)).finish())
    starts = [FIRST_PART_BLOCK + number * small.blocks for number in range(_PATHS)]
    parts = [small.part(start, 0) for start in starts]
    with report:
        for _ in plan.rounds():
            begin = time.process_time()
            layout = Layout(large)
            laid_out = time.process_time()
            part = layout.part(FIRST_PART_BLOCK, 0)
            made = time.process_time()
            report.add("100 k entries", "make", "s", made - begin, target=1.5)
            report.add("of it, layout", "make", "s", laid_out - begin)
            report.add("100 k entries", "size", "MB", len(part) / 1e6, target=12)
            with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
                begin = time.perf_counter()
                with Path(folder, "image").open("wb") as image:
                    roots = []
                    for number, (start, ready) in enumerate(zip(starts, parts, strict=True)):
                        roots.append(root_of(b"%032d-path" % number, ready, start))
                        image.seek(start * BLOCK_BYTES)
                        image.write(ready)
                    image.seek(0)
                    image.write(head(roots, inodes=30_000, nar_bytes=1))
                report.add(
                    "300 ready parts of 100 entries", "join", "ms", (time.perf_counter() - begin) * 1e3, target=100
                )
