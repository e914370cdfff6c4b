"""B8: time of one pass, from the request until the whole NAR is verified and complete in the cache.

narfs is mounted, strict, with an empty cache; the request is listing the path's directory, which strict answers when
the NAR was compared with its NarHash and is kept. Against it ``nix copy`` of the same path from the same lake into an
empty store of its own, signatures checked.
"""

from __future__ import annotations

import os
import resource
from contextlib import ExitStack
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from benchmarks import datasets, nix
from benchmarks.harness import Report, drop_caches, seconds
from benchmarks.processes import daemon_cpu_seconds, nginx
from benchmarks.proxy import proxy
from benchmarks.sites import Narfs, file_lake, scratch
from benchmarks.trees import many_files, one_file

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan

_COMPRESSIONS = ("zstd", "xz")


def run(plan: Plan) -> None:
    large = one_file(plan.size(500_000_000, 16_000_000))
    many = many_files(plan.size(100_000, 2_000), largest_bytes=8192)
    sizes = {"large": large.nar_bytes, "many files": many.nar_bytes}
    with Report("b8", "B8: one pass until verified and kept", plan, bytes=sizes) as report, scratch() as work:
        inputs = product({"large": large, "many files": many}.items(), _COMPRESSIONS[: plan.size(2, 1)])
        for part, ((name, dataset), compression) in plan.over(list(inputs)):
            _compare(report, dataset, name, compression, plan=part, work=work / f"{name}-{compression}")


def _compare(report: Report, dataset: Dataset, name: str, compression: str, *, plan: Plan, work: Path) -> None:
    with ExitStack() as running:
        port = running.enter_context(nginx(dataset.lake(compression), work / "nginx"))
        lake = running.enter_context(proxy(port, work / "proxy"))
        urls = {"http": lake.url, "file": file_lake(dataset, compression)}
        for part, (transport, url) in plan.over(urls.items()):
            label = f"{name}, {compression}, {transport}"
            for number in part.rounds():
                _narfs(report, label, Narfs((dataset,), (url,), work, remembers=False))
                _nix_copy(report, dataset, label, url, work / f"{transport}-{number}")
            report.ratio("narfs", "nix copy", label, target=0.8)
            report.ratio("narfs", "nix copy", f"{label}, processor")


def _narfs(report: Report, label: str, site: Narfs) -> None:
    with site.shown() as shown:
        drop_caches()
        before = daemon_cpu_seconds(shown.pid)
        report.add("narfs", label, "s", seconds(partial(os.listdir, shown.tree)))
        report.add("narfs", f"{label}, processor", "s", daemon_cpu_seconds(shown.pid) - before)


def _nix_copy(report: Report, dataset: Dataset, label: str, url: str, work: Path) -> None:
    key = datasets.public_key()
    drop_caches()
    copy = partial(nix.copy, url, nix.store_url(work / "root"), [dataset.top], work / "home", trusted_public_key=key)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report.add("nix copy", label, "s", seconds(copy))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    report.add("nix copy", f"{label}, processor", "s", processor_s)
