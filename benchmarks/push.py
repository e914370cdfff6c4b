"""push: a closure into a lake, narfs against ``nix copy``, at equal level and signed by both.

narfs writes sealed lakes, two objects a path more than Nix (``.ls`` and index), and brings each to the disk, which Nix
does not. Both take the closure from the same Nix store and write into a new directory, or through nginx over a link.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from benchmarks import datasets, nix
from benchmarks.harness import Report
from benchmarks.processes import children_of, memory_bytes, nginx
from benchmarks.proxy import Link, proxy
from benchmarks.sites import scratch
from benchmarks.trees import many_paths, one_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan

_LEVELS = (3, 9)
"""Nix's own for zstd, and narfs's."""
_FAR = Link(rtt_s=0.05, bits_per_s=1e9)
_FAR_LABEL = f"200 small paths, level 3, http at {_FAR}"
_SAMPLE_S = 0.05
_MEMORY_MB = 300


def run(plan: Plan) -> None:
    small = many_paths(plan.size(1000, 100), smallest_bytes=10 << 10, largest_bytes=200 << 10)
    large = one_file(plan.size(500_000_000, 16_000_000))
    sizes = {"small paths": small.nar_bytes, "one NAR": large.nar_bytes}
    facts = {"bytes": sizes, "small_paths": len(small.members)}
    with Report("push", "push: a closure into a lake", plan, **facts) as report, scratch() as work:
        nixes = nix.programs(work / "newer")
        for name, dataset, target in (("small paths", small, 0.5), ("one NAR", large, 1.0)):
            for level in _LEVELS:
                label = f"{name}, level {level}"
                for number in plan.rounds():
                    place = work / f"{dataset.folder.name}-{level}-{number}"
                    _into_directories(report, label, dataset, level, nixes=nixes, place=place)
                _compare(report, label, nixes, target=target)
        few = many_paths(plan.size(200, 20), smallest_bytes=10 << 10, largest_bytes=200 << 10)
        for number in plan.rounds():
            _far_away(report, few, nixes, work / f"far-{number}")
        _compare(report, _FAR_LABEL, nixes, target=0.5)


def _into_directories(
    report: Report, label: str, dataset: Dataset, level: int, *, nixes: Mapping[str, str | Path], place: Path
) -> None:
    lakes = {who: place / who.replace(" ", "-") for who in ("narfs", *nixes)}
    for who, lake in lakes.items():
        command = _narfs(dataset, f"file://{lake}", level)
        if who in nixes:
            command = _nix_copy(nixes[who], dataset, f"file://{lake}", level)
        _measure(report, who, label, command, place / "home")
        blobs = sum(blob.stat().st_size for blob in (lake / "nar").iterdir())
        report.add(who, f"{label}, blobs", "MB", blobs / 1e6)
    shutil.rmtree(place)


def _far_away(report: Report, dataset: Dataset, nixes: Mapping[str, str | Path], place: Path) -> None:
    for who in ("narfs", *nixes):
        base = place / who.replace(" ", "-")
        (base / "lake").mkdir(parents=True)
        with ExitStack() as running:
            port = running.enter_context(nginx(base / "lake", base / "nginx"))
            url = running.enter_context(proxy(port, base / "proxy", _FAR)).url
            command = _nix_copy(nixes[who], dataset, url, 3) if who in nixes else _narfs(dataset, url, 3)
            _measure(report, who, _FAR_LABEL, command, base / "home")
    shutil.rmtree(place)


def _compare(report: Report, label: str, nixes: Mapping[str, str | Path], *, target: float) -> None:
    for who in nixes:
        report.ratio("narfs", who, label, target=target)
        report.ratio("narfs", who, f"{label}, processor")


def _narfs(dataset: Dataset, url: str, level: int) -> list[str]:
    key = str(datasets.secret_key_file())
    options = ["--from", nix.store_url(dataset.store), "--to", url, "--secret-key-file", key, "--level", str(level)]
    return [sys.executable, "-m", "narfs", "push", *options, "--closure", dataset.top.path]


def _nix_copy(program: str | Path, dataset: Dataset, url: str, level: int) -> list[str]:
    parameters = f"compression=zstd&parallel-compression=true&compression-level={level}"
    to = f"{url}?{parameters}&secret-key={datasets.secret_key_file()}"
    return [str(program), "copy", "--from", nix.store_url(dataset.store), "--to", to, dataset.top.path]


def _measure(report: Report, who: str, label: str, command: Sequence[str], home: Path) -> None:
    environment = nix.environment(home) | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    os.sync()
    before, begun, peak = _processor_s(), time.perf_counter(), 0
    with (
        (home / "said").open("w+b") as said,
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said) as process,
    ):
        while process.poll() is None:
            peak = max(peak, _memory_bytes(process.pid))
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SAMPLE_S)
        took_s = time.perf_counter() - begun
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command} failed: {said.read()[-2000:]!r}")
    report.add(who, label, "s", took_s)
    report.add(who, f"{label}, processor", "s", _processor_s() - before)
    report.add(who, f"{label}, memory", "MB", peak / 1e6, target=_MEMORY_MB if who == "narfs" else None)


def _memory_bytes(pid: int) -> int:
    """Of a process and its children; libraries that they share count for each."""
    total = 0
    with suppress(OSError, StopIteration):  # it may end meanwhile
        for each in (pid, *children_of(pid)):
            total += memory_bytes(each)
    return total


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
