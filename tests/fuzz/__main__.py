"""Fuzz, guided by coverage: ``python -m tests.fuzz [TARGET...] --runs 500000``.

Each target is fuzzed in a process of its own, beginning with its corpus and its seeds, until so many inputs were tried
or so many seconds passed. An input that breaks a target ends it, and is left in ``--found``. ``--keep`` puts what was
learned into the corpus.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from tests.fuzz.corpus import learned, read, smallest, write
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

MOST_BYTES = 4096
MOST_SECONDS = 120
"""For one input, by the clock: what hangs and uses no processor. Others may have the processor that long."""
MOST_MEGABYTES = 512
"""Of the whole process, which begins with 80 to 100."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", default=[], metavar="TARGET")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each target")
    parser.add_argument("--seconds", type=int, default=0, help="and seconds for each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write the corpus anew")
    parser.add_argument("--found", type=Path, default=Path(), help="directory for inputs that break something")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS) - {"all"}:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}, and all in one")
    bad = 0
    for target in asked.targets or TARGETS:
        bad += not fuzz(target, asked)
    return bool(bad)


def fuzz(target: str, asked: argparse.Namespace) -> bool:
    """Fuzz one target; say whether nothing broke."""
    with TemporaryDirectory(prefix="narfs-fuzz-") as directory:
        begun_with = [*read(target), *seeds().get(target, [])]
        for number, data in enumerate(begun_with):
            (Path(directory) / f"{number}").write_bytes(data)
        program = [sys.executable, "-m", "tests.fuzz.guided", target, directory]
        limits = [f"-runs={asked.runs}", f"-max_total_time={asked.seconds}", f"-seed={asked.seed}"]
        bounds = [f"-timeout={MOST_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}", f"-max_len={MOST_BYTES}"]
        begin = monotonic()
        ran = subprocess.run(
            [*program, *limits, *bounds, f"-artifact_prefix={asked.found}/{target}-"],
            capture_output=True,
            check=False,
        )
        said = ran.stderr.decode(errors="replace")
        lines = re.findall(r"^#(\d+)\s+(\w+)\s+cov: (\d+).*?rss: (\d+)Mb", said, re.MULTILINE)
        runs, _, coverage, megabytes = lines[-1] if lines else ("0", "", "0", "0")
        newest = max((int(number) for number, event, *_ in lines if event == "NEW"), default=0)
        result = "good" if ran.returncode == 0 else "BROKEN"
        sys.stdout.write(
            f"{target}: {result}, {runs} inputs in {monotonic() - begin:.0f} s, "
            f"coverage {coverage}, the last new in input {newest}, {megabytes} MB\n"
        )
        sys.stdout.flush()
        if ran.returncode:
            sys.stdout.write(ran.stdout.decode(errors="replace")[-3000:] + said[-3000:])
        elif asked.keep:
            write(target, smallest(target, [*begun_with, *learned(Path(directory))]))
    return ran.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
