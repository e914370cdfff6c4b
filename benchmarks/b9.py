"""B9: eight builds at once that share their inputs, against one: bytes fetched, time, memory.

The builds are those of the tests (tests/nix/workers.py): the recipe of docs/build-worker.md with real Nix, from a
sealed lake behind real nginx on loopback, whose log counts. Each of eight jobs reads the same two paths whole and
leaves a third one, twice as big, alone. One job is built first, then, with a fresh daemon and an empty cache, all eight
at once. Memory is that of a cgroup with the daemon and all that builds (Nix, shells, compressors, pushes), page cache
and kernel memory included, but not nginx: the most that the kernel counted at one time, and the most of its parts that
was seen, every 0.1 s. What the daemon and its workers have resident is a row of its own.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness import Report, drop_caches
from benchmarks.memory_group import Usage, memory_group
from benchmarks.processes import children_of, memory_bytes
from benchmarks.sites import scratch
from tests.nix.workers import NUMBERS, Inputs, Served, Worker, wait_for
from tests.nix.world import World

if TYPE_CHECKING:
    from benchmarks.harness import Plan

_MEBI = 1 << 20
_POLL_S = 0.1


def run(plan: Plan) -> None:
    scale = plan.size(5, 1)
    facts = {"read_bytes": scale * 10_000_000}
    with (
        Report("b9", "B9: eight builds at once against one", plan, **facts) as report,
        scratch() as work,
        World(work / "builder") as builder,
    ):
        inputs = Inputs.build(builder, scale)
        for part, frontend in plan.over(("tree", "erofs")[: plan.size(2, 1)]):
            for number in part.rounds():
                folder = work / f"{frontend}-{number}"
                with inputs.served(folder) as lake, World(folder / "machine") as machine:
                    measuring = _Measuring(report, Worker(machine, lake, inputs, "--frontend", frontend), lake, scale)
                    one = measuring.build(f"{frontend}, 1 build", NUMBERS[:1])
                    together = measuring.build(f"{frontend}, 8 builds", NUMBERS)
                report.add(f"{frontend}, 8 builds ÷ 1", "fetched", "×", together / one, target=1.05)


@dataclass(frozen=True, slots=True)
class _Measuring:
    report: Report
    worker: Worker
    lake: Served
    scale: int

    def build(self, subject: str, numbers: range) -> int:
        """Build from an empty cache; gives the bytes that were fetched."""
        worker = self.worker
        worker.forget()
        derivations = {number: worker.derivation(f"job.n{number}", self.scale) for number in numbers}
        before = sum(self.lake.asked().values())
        with memory_group() as group, ExitStack() as serving:
            drop_caches()
            with group.joined():
                daemon = serving.enter_context(worker.serving())
                start = time.perf_counter()
                builds = [worker.start(derivation, f"build-{number}") for number, derivation in derivations.items()]
            resident, most = 0, Usage(0, 0)
            while any(build.poll() is None for build in builds):
                resident = max(resident, sum(map(_resident_bytes, (daemon.pid, *children_of(daemon.pid)))))
                most = Usage(*map(max, most, group.usage()))
                time.sleep(_POLL_S)
            self.report.add(subject, "all built and pushed", "s", time.perf_counter() - start)
            for build in builds:
                worker.finish(build)
            wait_for(lambda: worker.views() == [])
            peak = group.peak_bytes()
        fetched = sum(self.lake.asked().values()) - before
        self.report.add(subject, "fetched", "MB", fetched / 1e6)
        self.report.add(subject, "resident, daemon and its workers", "MiB", resident / _MEBI)
        self.report.add(subject, "memory of daemon and builds, at most", "MiB", peak / _MEBI)
        self.report.add(subject, "of it anonymous, at most", "MiB", most.anonymous / _MEBI)
        self.report.add(subject, "of it page cache, at most", "MiB", most.cached / _MEBI)
        return fetched


def _resident_bytes(pid: int) -> int:
    try:
        return memory_bytes(pid)
    except (OSError, StopIteration):  # a worker that has just ended
        return 0
