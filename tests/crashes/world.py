"""A lake and its model, ``narfs mount`` on it with a cache that is too small, and programs that read all the time."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narfs.daemon import control
from tests.crashes.victim import PAUSED
from tests.mount.kernel import is_mount, unmount
from tests.support.lakes import Lake, Member, Recipe
from tests.support.sealing import add_sealed
from tests.support.trees import File, read_from_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 120.0
"""A start takes a second of processor, which at the lowest priority on a busy machine may be long in coming."""
BUDGET = 6 * 1024 * 1024
MOST_NAR = 3 * 1024 * 1024
"""The longest NAR in the lake: so much may a cache exceed its budget."""

_TREE_FILES = ((b"bin", 500_000), (b"lib", 800_000), (b"doc", 90_000))


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - the same in every run


def make_lake(directory: Path) -> tuple[Lake, list[Member]]:
    """Make 13 MB in 16 paths: sealed ones, of which parts are fetched, and others, of which each passes as a whole."""
    lake = Lake(directory)
    members = []
    for number in range(3):
        tree: Any = {
            name: {b"%d" % part: File(noise(number * 100 + part, size)) for part in range(2)}
            for name, size in _TREE_FILES[: 2 + number % 2]
        }
        members.append(add_sealed(lake, f"sealed-{number}", tree, lake.secret_key, frame_bytes=128 * 1024))
    for number, recipe in enumerate([Recipe("none"), Recipe("zstd"), Recipe("xz"), Recipe("zstd", 100_000)]):
        size = 900_000 + 300_000 * number
        tree = {b"data": File(noise(1000 + number, size)), b"motto": File(b"be lazy\n" * number)}
        members.append(lake.add(f"solid-{number}", tree, recipe))
    members += [lake.add(f"tiny-{n}", {b"x": File(noise(2000 + n, 100 * n))}, Recipe("none")) for n in range(9)]
    assert max(len(member.nar) for member in members) < MOST_NAR + 100_000
    return lake, members


@dataclass
class World:
    """Of one test, below ``directory``, whose path is short: sockets are in it."""

    directory: Path
    lake: Lake
    members: list[Member]
    cache: Path

    @property
    def place(self) -> Path:
        return self.directory / "mnt"

    @property
    def environ(self) -> dict[str, str]:
        places = {f"XDG_{name}": str(self.directory / "xdg") for name in ("CACHE_HOME", "STATE_HOME", "RUNTIME_DIR")}
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PYTHONPATH": str(REPOSITORY),
            "NIX_CONF_DIR": str(self.directory / "no-nix"),
            **places,
        }

    def start(self, *narfs: str, point: str = "-", variant: int = 0, nth: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.crashes.victim", point, str(variant), str(nth), *narfs]
        with (self.directory / "log").open("a") as log:
            return subprocess.Popen(
                command, env=self.environ, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=log, text=True
            )

    @contextmanager
    def mounted(self, *options: str, point: str = "-", variant: int = 0, nth: int = 0) -> Iterator[Daemon]:
        """Mount an open View in a process of its own; it is killed at the end, if it lives."""
        self.place.mkdir(exist_ok=True)
        keys = self.lake.trusted_public_keys
        given = ["--store", self.lake.url, "--trusted-public-keys", keys, "--trusted-index-keys", keys]
        given += ["--cache-dir", str(self.cache), "--cache-size", str(BUDGET), "--keep-free", "0"]
        process = self.start(
            "-v", "mount", "-f", *given, *options, str(self.place), point=point, variant=variant, nth=nth
        )
        try:
            gives_up = time.monotonic() + PATIENCE_S
            while not is_mount(self.place):
                assert process.poll() is None, f"it ended: {self.log()[-2000:]}"
                assert time.monotonic() < gives_up, f"it does not mount: {self.log()[-2000:]}"
                time.sleep(0.01)
            yield Daemon(self, process)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            unmount(self.place)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def bytes_on_disk(self) -> int:
        """What the NARs of the cache take."""
        files = (file.stat() for file in (self.cache / "nar").rglob("*") if file.is_file())
        return sum(file.st_blocks * 512 for file in files)


@dataclass
class Daemon:
    """A process that serves a world."""

    world: World
    process: subprocess.Popen[str]

    def compare(self) -> None:
        """Read every byte there is, and compare it with the model."""
        for member in self.world.members:
            assert read_from_disk(self.world.place / member.path.base_name) == member.tree, member.path

    def ask(self, operation: str, **arguments: object) -> Any:
        (socket,) = [
            path
            for path in control.sockets(self.world.directory / "xdg" / "narfs")
            if control.pid_of(path) == self.process.pid
        ]
        return control.ask(socket, operation, arguments, deadline_s=60)

    def verify(self) -> list[dict[str, str]]:
        """Give what ``narfs cache verify`` drops."""
        dropped: list[dict[str, str]] = []
        cursor = None
        while True:
            told = self.ask("cache-verify", **{"from": cursor})
            dropped += told["dropped"] + told["left"]
            if (cursor := told["next"]) is None:
                return dropped

    def paused(self, patience_s: float) -> bool:
        """Wait until it says that it stopped at its point."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], patience_s)
        return bool(ready) and self.process.stdout.readline() == PAUSED

    def end(self) -> int:
        """Ask it to end; give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill it, and see that its worker processes do not outlive it."""
        workers = children(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        gives_up = time.monotonic() + PATIENCE_S
        while any(map(lives, workers)):
            assert time.monotonic() < gives_up, "worker processes outlive their daemon"
            time.sleep(0.01)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def readers(
    world: World, count: int, chance: random.Random, failed: list[OSError] | None = None
) -> Iterator[list[str]]:
    """Read spans of files at random and compare them, until the block ends; gives what was wrong, and what failed."""
    wrong: list[str] = []
    ends = threading.Event()
    files = [
        (world.place / member.path.base_name / os.fsdecode(name), data)
        for member in world.members
        for name, data in _files(member.tree)
    ]

    def work(dice: random.Random) -> None:
        while not ends.is_set():
            path, data = dice.choice(files)
            start = dice.randrange(len(data) + 1)
            length = dice.choice([1, 4096, 200_000, len(data)])
            end = min(start + length, len(data))
            try:
                with path.open("rb", buffering=0) as file:
                    while start < end:  # a read that meets the kill gives what it has, the next one fails
                        read = os.pread(file.fileno(), end - start, start)
                        if not read or read != data[start : start + len(read)]:
                            wrong.append(f"{path} at {start}: {len(read)} bytes")
                            break
                        start += len(read)
            except OSError as error:
                if failed is not None:
                    failed.append(error)
                ends.wait(0.002)

    threads = [
        threading.Thread(target=work, args=(random.Random(chance.random()),), daemon=True)  # noqa: S311
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        ends.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in threads), "a reader hangs"


def _files(tree: Any, path: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    for name, node in tree.items():
        if isinstance(node, File):
            yield path + name, node.contents
        else:
            yield from _files(node, path + name + b"/")
