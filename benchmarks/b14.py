"""B14: what comparing each chunk with its signed digest costs, on a link of 1 Gbit/s.

The same reads from the same sealed lake, by narfs and by a narfs that does not compare (``unverified``); both begin
with an empty cache. narfs has no such mode: ``?trusted=1`` waives a narinfo's signature and no digest.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.datasets import files_below
from benchmarks.harness import Report, drop_caches, seconds
from benchmarks.processes import daemon_cpu_seconds, nginx
from benchmarks.proxy import Link, proxy
from benchmarks.sites import Narfs, scratch
from benchmarks.trees import many_files, one_file
from benchmarks.workloads import read_each, read_large

if TYPE_CHECKING:
    from benchmarks.harness import Plan

_LINK = Link(0.0002, 1e9)
_SUBJECTS = {"strict": "narfs", "digests not compared": "benchmarks.unverified"}


def run(plan: Plan) -> None:
    large = one_file(plan.size(500_000_000, 16_000_000))
    many = many_files(plan.size(12_000, 240), largest_bytes=65_535)
    small_files = list(files_below(many.tree))
    sizes = {"large": large.nar_bytes, "small files": many.nar_bytes}
    facts = {"bytes": sizes, "link": str(_LINK)}
    with Report("b14", "B14: sealed reads, digests compared or not", plan, **facts) as report, scratch() as work:
        reads = {
            "one large file": (large, lambda tree: read_large(tree / "file", 1)),
            "small files": (many, lambda tree: read_each(tree, small_files)),
        }
        for part, (name, (dataset, read)) in plan.over(reads.items()):
            folder, base = dataset.lake("sealed"), work / dataset.folder.name
            with nginx(folder, base / "nginx") as port, proxy(port, base / "proxy", _LINK) as lake:
                for _ in part.rounds():
                    for subject, module in _SUBJECTS.items():
                        site = Narfs((dataset,), (lake.url,), base, module=module, remembers=False)
                        with site.shown() as shown:
                            drop_caches(but=folder)
                            before = daemon_cpu_seconds(shown.pid)
                            report.add(subject, name, "s", seconds(partial(read, shown.tree)))
                            report.add(subject, f"{name}, processor", "s", daemon_cpu_seconds(shown.pid) - before)
            strict, unverified = _SUBJECTS
            report.ratio(strict, unverified, name, target=1.1)
            report.ratio(strict, unverified, f"{name}, processor")
