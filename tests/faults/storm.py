"""A storm: readers compare every byte of a mount with the truth while faults of the lake come and go.

``python -m tests.faults.storm --seed 7`` repeats one, as root. The weather follows from the seed alone: rounds in which
each kind of fault has its turn, alone or with others, in an order that is drawn. What it meets is up to the machine.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.faults.kinds import CONNECTING, Kind, Order
from tests.faults.lake import REPOSITORY, faulty_lake
from tests.faults.world import House, private_network
from tests.support.lakes import Lake, Recipe
from tests.support.sealing import add_sealed
from tests.support.trees import File, Tree, write_to_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESSES, _THREADS = 3, 8
_FILE_BYTES = 200_000
_SETTINGS = """\
cache-size = "6M"
stall-deadline = 1
read-deadline = 10
"""


class Goal(NamedTuple):
    """When a storm has lasted long enough."""

    reads: int
    """That the daemon answered with bytes, by its own count."""
    hits: int
    """Reads in flight hit by each kind of fault."""
    most_s: float
    fault_s: float = 2.0
    calm_s: float = 1.0


class Report(NamedTuple):
    """What became of it."""

    seed: int
    seconds: float
    reads: int
    """Of them all, by the daemon's own count."""
    right: int
    wrong: list[str]
    failed: dict[str, int]
    slowest_s: float
    hits: dict[str, int]
    """Of reads in flight, by kind."""
    trapped: int
    corrupt: int
    bugs: list[str]


def rage(
    directory: Path, seed: int, goal: Goal, *, module: str = "narfs", frontend: str = "tree", progress: bool = False
) -> Report:
    """Let one pass over a mount that ``module`` makes."""
    lake, paths = _fill(directory, random.Random(seed))  # noqa: S311 - any noise will do
    keys = lake.trusted_public_keys
    arguments = ["--frontend", frontend, "--trusted-public-keys", keys, "--trusted-index-keys", keys]
    arguments += [word for path in paths for word in ("--path", path)]
    with ExitStack() as opened:
        inside = opened.enter_context(private_network(directory / "net"))
        work = directory / "work"
        faulty = opened.enter_context(faulty_lake(lake.directory, work, seed=seed, named=True, inside=inside))
        house = House(directory, inside, faulty)
        place = opened.enter_context(house.mounted(*arguments, settings=_SETTINGS, module=module))
        begun = time.monotonic()
        readers = [_start_reader(place, directory / "model", seed + number, frontend) for number in range(_PROCESSES)]
        try:
            while house.status()["requests"]["requests"].get("read", 0) < _PROCESSES * _THREADS:
                time.sleep(0.1)  # on a busy machine they are long in coming
            begun = time.monotonic()
            for orders in weather(seed):
                hits = {kind: hit.reads for kind, hit in faulty.hits().items()}
                asked = house.status()["requests"]
                right = asked["requests"].get("read", 0) - sum(asked["failures"].values())
                if progress:
                    sys.stderr.write(f"{time.monotonic() - begun:.0f} s: {right} reads; {hits}\n")
                reached = right >= goal.reads and min(hits.values()) >= goal.hits
                if reached or time.monotonic() - begun > goal.most_s:
                    break
                for order in orders:
                    faulty.begin(order)
                time.sleep(goal.fault_s)
                faulty.end()
                time.sleep(goal.calm_s)
        finally:
            met = [json.loads(reader.communicate(timeout=60)[0]) for reader in readers]
        told = house.status()
        trapped = faulty.trapped()
        bugs = [line for line in house.warnings() if "bug" in line]
    return Report(
        seed,
        round(time.monotonic() - begun, 1),
        told["requests"]["requests"]["read"],
        sum(each["right"] for each in met),
        [wrong for each in met for wrong in each["wrong"]],
        dict(sum((Counter(each["failed"]) for each in met), Counter())),
        round(max(each["slowest_s"] for each in met), 2),
        {kind.value: count for kind, count in hits.items()},
        trapped,
        told["engine"]["counters"]["corrupt"],
        bugs,
    )


def _fill(directory: Path, chance: random.Random) -> tuple[Lake, list[str]]:
    """Make the lake, what was there before it, and what is true of both."""
    lake, old = Lake(directory / "lake"), Lake(directory / "lake" / "old")
    paths = []
    for number, form in enumerate(["sealed"] * 10 + ["none", "none", "zstd", "xz", "zstd in frames", "bzip2"]):
        trees = [_tree(chance, number), _tree(chance, number)]
        recipe = Recipe("zstd", 65536) if form == "zstd in frames" else Recipe(form)
        member, before = (
            add_sealed(each, f"n{number}", tree, lake.secret_key)
            if form == "sealed"
            else each.add(f"n{number}", tree, recipe)
            for each, tree in zip((lake, old), trees, strict=True)
        )
        (old.directory / member.narinfo.url).write_bytes(old.blob_file(before).read_bytes())
        paths.append(member.path.path)
        (directory / "model").mkdir(exist_ok=True)
        write_to_disk(trees[0], directory / "model" / member.path.base_name)
    return lake, paths


def _tree(chance: random.Random, number: int) -> Tree:
    return {b"data%d" % part: File(chance.randbytes(_FILE_BYTES + 1000 * number + part)) for part in range(4)}


def weather(seed: int) -> Iterator[list[Order]]:
    """Draw what goes wrong next, for ever; in each round every kind comes at least once."""
    chance = random.Random(f"weather {seed}")  # noqa: S311 - a schedule, no secret
    while True:
        kinds = list(Kind)
        chance.shuffle(kinds)
        for kind in kinds:
            others = chance.sample([each for each in Kind if each not in CONNECTING], chance.choice((0, 0, 1, 2)))
            together = [kind] if kind in CONNECTING else [kind, *(each for each in others if each is not kind)]
            share = 1.0 if len(together) == 1 else 0.5
            yield [Order(each, chance.choice(("/nar/*", "/nar/*", "*")), share) for each in together]


def _start_reader(place: Path, model: Path, seed: int, frontend: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.reader", str(place), str(model), str(seed), str(_THREADS), frontend]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.faults.storm", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reads", type=int, default=100_000)
    parser.add_argument("--hits", type=int, default=100)
    parser.add_argument("--most-s", type=float, default=1800)
    parser.add_argument("--fault-s", type=float, default=2)
    parser.add_argument("--calm-s", type=float, default=1)
    parser.add_argument("--frontend", choices=("tree", "erofs"), default="tree")
    parser.add_argument("--unverified", action="store_true", help="with a narfs that compares no parts of NARs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storm-") as directory:
        goal = Goal(given.reads, given.hits, given.most_s, given.fault_s, given.calm_s)
        module = "benchmarks.unverified" if given.unverified else "narfs"
        report: Any = rage(
            Path(directory), given.seed, goal, module=module, frontend=given.frontend, progress=True
        )._asdict()
    report["wrong"] = len(report["wrong"])
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
