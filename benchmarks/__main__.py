"""``python -m benchmarks NAME``: measure, print a table, keep the raw numbers.

``all`` measures the matrix in ``--minutes``; ``table`` writes what was measured last into the documents and pictures.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import signal
import sys
from pathlib import Path

import narfs
from benchmarks import figures, matrix, tables
from benchmarks.harness import Plan

DOCUMENTS = [Path(__file__).with_name("README.md"), Path(__file__).parents[1] / "README.md"]

BENCHMARKS = {
    "b1": ("benchmarks.b1", "run a program from a cold mount until it exits (with b2 in the same run)"),
    "b2": ("benchmarks.b1", "the same with nix copy + run (measured together with b1)"),
    "b3": ("benchmarks.b1", "the same after a restart of the daemon (measured together with b1)"),
    "b4": ("benchmarks.b4", "metadata: find -ls of 60 k entries, 12 k stat, 12 k ENOENT"),
    "b5": ("benchmarks.b5", "sequential read of one large file, 1 and 4 readers"),
    "b5-link": ("benchmarks.b5_link", "one large file from a far sealed lake, cold, against curl | zstd -d"),
    "prefetch-p99": ("benchmarks.prefetch_p99", "reads beside a prefetch, against reads alone"),
    "b6": ("benchmarks.b6", "random 4 KiB and 256 KiB reads in a member of 1 GiB, by layout of the lake"),
    "b7": ("benchmarks.b7", "open and read 12 k files below 64 KiB"),
    "b8": ("benchmarks.b8", "one pass: from the request until verified and complete in the cache, against nix copy"),
    "b9": ("benchmarks.b9", "eight builds at once that share their inputs, against one: bytes fetched, time, memory"),
    "b10": ("benchmarks.b10", "version 2 of a closure after version 1 is cached: new bytes (with b11)"),
    "b11": ("benchmarks.b10", "what the cache takes on the disk (measured together with b10)"),
    "b12": ("benchmarks.b12", "the lake is gone for a while: errors, longest wait, recovery"),
    "b13": ("benchmarks.b13", "memory of the daemon per 100 k entries"),
    "b14": ("benchmarks.b14", "sealed reads, each digest compared, against none compared"),
    "compile": (
        "benchmarks.compile",
        "a C project's own build, its compiler and headers in a view, against the disk",
    ),
    "view-create": (
        "benchmarks.view_create",
        "a view of 300 paths, 30 k entries, until it is usable",
    ),
    "p99": ("benchmarks.p99", "latency of warm reads while a NAR of 100 k files is ingested"),
    "reads": ("benchmarks.reads", "what it costs to note what is read"),
    "http-client": (
        "benchmarks.http_client",
        "requests and bytes per CPU second over HTTP: direct, httpx, obstore",
    ),
    "s3-client": ("benchmarks.s3_client", "requests and bytes per CPU second from S3: obstore against httpx"),
    "erofs-image": ("benchmarks.erofs_image", "an EROFS image of 100 k entries, and one joined of ready parts"),
    "push": ("benchmarks.push", "a closure of small paths, and one NAR of 500 MB, into a lake, against nix copy"),
    "nar-parse": ("benchmarks.nar_parse", "NAR entries parsed a second"),
}

WANTS_S = {
    "b1": 800,
    "b5": 90,
    "b5-link": 120,
    "b4": 60,
    "b7": 25,
    "b6": 100,
    "b8": 100,
    "b9": 60,
    "b10": 60,
    "b12": 130,
    "b13": 30,
    "b14": 60,
    "p99": 60,
}
"""The matrix in its order: seconds that five runs of each take on a quiet machine with two cores, inputs ready."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    choices = [[], *BENCHMARKS, "all", "table"]
    parser.add_argument("names", nargs="*", metavar="NAME", choices=choices, help="what to measure; all; table")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--quick", action="store_true", help="small inputs, one run: does it work at all?")
    parser.add_argument("--runs", type=int, help="how often, if there is time; 5 unless told")
    parser.add_argument("--minutes", type=float, default=20, help="time for all; 20 unless told")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted all")
    parser.add_argument("--json", action="store_true", help="print the lines of the result file too")
    asked = parser.parse_args()
    if asked.list or not asked.names:
        for name, (_, question) in BENCHMARKS.items():
            print(f"{name:12} {question}{' (in all)' if name in WANTS_S else ''}")
    elif asked.names == ["table"]:
        _write_documents()
    else:
        _measure(asked)


def _write_documents() -> None:
    for picture in figures.draw():
        print(picture)
    for document in DOCUMENTS:
        tables.fill(document)
        figures.show(document)


def _measure(asked: argparse.Namespace) -> None:
    if os.geteuid() != 0:
        sys.exit("benchmarks: root is needed to drop the kernel's caches")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception unmounts and ends what was started
    # As installing does: with PYTHONDONTWRITEBYTECODE each start would compile what was changed, for up to 0.2 s.
    compileall.compile_dir(narfs.__path__[0], quiet=1)
    plan = Plan(quick=asked.quick, runs=asked.runs or (1 if asked.quick else 5), as_json=asked.json)
    modules = {name: module for name, (module, _) in BENCHMARKS.items()}
    if "all" not in asked.names:
        for module in dict.fromkeys(modules[name] for name in asked.names):
            importlib.import_module(module).run(plan)
    elif not matrix.run(plan, modules, WANTS_S, asked.minutes, resume=asked.resume):
        sys.exit(1)


if __name__ == "__main__":
    main()
