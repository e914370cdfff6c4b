"""view-create: from the request for a View of 300 paths, 30 k entries, until a program has read in it.

The daemon runs already, with a sealed lake at 10 ms behind real nginx. *Cold* is an empty cache: narinfos and indexes
of the whole closure are fetched, ten layers of references deep. *Again* is a second View of the same daemon at once.
*Cache filled* is a fresh daemon over that cache; *disk cold* the same after the kernel has forgotten its files. What is
asked is the control socket, as a scheduler of builds would; ``narfs view create`` costs the start of a Python more.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import datasets
from benchmarks.harness import Report, drop_caches
from benchmarks.processes import child, cpu_seconds, nginx, wait_until
from benchmarks.proxy import Link, proxy
from benchmarks.sites import scratch
from benchmarks.trees import deep_closure
from narfs.daemon import control

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import Popen

    from benchmarks.datasets import Dataset
    from benchmarks.harness import Plan
    from benchmarks.proxy import Proxy

_LINK = Link(0.010, 1e9)
_COLD_S = 1.0
_WARM_S = 0.1
_KEPT_S = 5.0
"""Parts of EROFS images are kept once the indexes have been written."""


def run(plan: Plan) -> None:
    layers = plan.size(10, 3)
    dataset = deep_closure(layers, paths=plan.size(30, 5), entries=100)
    with (
        Report("view-create", "a View from the request until it is read", plan, paths=len(dataset.members)) as report,
        scratch() as work,
        nginx(dataset.lake("sealed"), work / "nginx") as port,
        proxy(port, work / "proxy", _LINK) as lake,
    ):
        for number in plan.rounds():
            for frontend in ("tree", "erofs"):
                _Measuring(report, dataset, lake, work / f"{frontend}-{number}", frontend).measure()


class _Measuring:
    def __init__(self, report: Report, dataset: Dataset, lake: Proxy, home: Path, frontend: str) -> None:
        self._report = report
        self._dataset = dataset
        self._lake = lake
        self._home = home
        self._frontend = frontend
        home.mkdir()

    def measure(self) -> None:
        with self._daemon() as process:
            drop_caches(but=self._dataset.lake("sealed"))
            before = self._lake.traffic()
            self._create(process, "one", "cold", _COLD_S)
            self._report.add(self._frontend, "cold, requests", "", self._lake.traffic().since(before).requests)
            self._create(process, "two", "again", _WARM_S)
            time.sleep(_KEPT_S)
            self._remove("one", "two")
        for measure, target in (("cache filled", _WARM_S), ("cache filled, disk cold", None)):
            with self._daemon() as process:
                if target is None:
                    drop_caches()
                self._create(process, "three", measure, target)
                self._remove("three")
        shutil.rmtree(self._home)

    def _create(self, process: Popen[bytes], name: str, measure: str, target: float | None) -> None:
        spec = {"name": name, "closures": [self._dataset.top.path], "settings": {"frontend": self._frontend}}
        used = cpu_seconds(process.pid)
        start = time.perf_counter()
        facts = control.ask(self._socket, "view-create", spec, deadline_s=60)
        answered = time.perf_counter()
        read = os.stat(os.path.join(facts["directory"], self._dataset.paths[0].base_name, "share-000"))  # noqa: PTH116, PTH118
        done = time.perf_counter()
        if not read.st_size or facts["paths"] != len(self._dataset.members):
            raise RuntimeError(f"not the view that was asked for: {facts}")
        self._report.add(self._frontend, f"{measure}: usable", "s", done - start, target=target)
        self._report.add(self._frontend, f"{measure}: first stat", "s", done - answered)
        self._report.add(self._frontend, f"{measure}: processor", "s", cpu_seconds(process.pid) - used)

    def _remove(self, *names: str) -> None:
        for name in names:
            control.ask(self._socket, "view-remove", {"name": name}, deadline_s=60)

    @property
    def _socket(self) -> Path:
        return self._home / "narfs" / control.DAEMON_SOCKET

    @contextmanager
    def _daemon(self) -> Iterator[Popen[bytes]]:
        key, log = datasets.public_key(), self._home / "log"
        keys = ("--trusted-public-keys", key, "--trusted-index-keys", key)
        stores = ("--store", self._lake.url, "--cache-dir", self._home / "cache", "--cache-size", "20G")
        ours = {"HOME": self._home, "NIX_CONF_DIR": self._home}
        ours |= {f"XDG_{name}": self._home for name in ("RUNTIME_DIR", "CONFIG_HOME", "STATE_HOME")}
        environment = os.environ | {name: str(value) for name, value in ours.items()}
        command = (sys.executable, "-m", "narfs", "daemon", *map(str, stores), *keys)
        with child(command, log=log, environment=environment) as process:
            wait_until(self._answers, process, log)
            yield process

    def _answers(self) -> bool:
        try:
            control.ask(self._socket, "view-list")
        except Exception:  # noqa: BLE001 - not yet
            return False
        return True
