"""A program that reads a mount and compares every byte with what should be there.

``python -m tests.faults.reader MOUNT MODEL SEED THREADS FRONTEND`` goes on until its standard input ends, and then
prints what it met as JSON. O_DIRECT takes each read past the page cache, so that each is one that narfs answers. EROFS
knows none: pages of files are dropped behind each read, and narfs drops those of its slab each second.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BYTES = 128 * 1024
_READS_OF_ONE_OPEN = 20
_AFTER_A_FAILURE_S = 0.02


class Met(NamedTuple):
    """What readers met; ``wrong`` are reads of which a byte differed, with where that was."""

    right: int
    wrong: list[str]
    failed: dict[str, int]
    slowest_s: float


class Reader:
    """Reads random parts of random files; several threads share it."""

    def __init__(self, mount: Path, model: Path, seed: int, *, direct: bool) -> None:
        self.ended = threading.Event()
        self._seed = seed
        self._flags = os.O_RDONLY | (os.O_DIRECT if direct else 0)
        self._files = [
            (mount / file.relative_to(model), file.read_bytes()) for file in sorted(model.rglob("*")) if file.is_file()
        ]
        self._right = 0
        self._wrong: list[str] = []
        self._failed: Counter[str] = Counter()
        self._slowest_s = 0.0
        self._lock = threading.Lock()

    def met(self) -> Met:
        return Met(self._right, self._wrong, dict(self._failed), self._slowest_s)

    def run(self, thread: int) -> None:
        chance = random.Random(f"{self._seed} {thread}")  # noqa: S311 - lots, no secrets
        # Not bytes: a buffer of O_DIRECT begins on a page.
        buffer = mmap.mmap(-1, _MOST_BYTES)
        while not self.ended.is_set():
            place, contents = chance.choice(self._files)
            try:
                with self._timed():
                    descriptor = os.open(place, self._flags)
                try:
                    for _ in range(_READS_OF_ONE_OPEN):
                        self._read_once(descriptor, place, contents, chance, buffer)
                        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)
            except OSError as error:
                with self._lock:
                    self._failed[errno.errorcode[error.errno or 0]] += 1
                self.ended.wait(_AFTER_A_FAILURE_S)

    def _read_once(
        self, descriptor: int, place: Path, contents: bytes, chance: random.Random, buffer: mmap.mmap
    ) -> None:
        start = chance.randrange(0, len(contents), 512)
        length = chance.choice((512, 4096, 16384, _MOST_BYTES))
        expected = contents[start : start + length]
        count, same = 0, True
        # What fails in the middle gives what came before; nothing at all would be the end of the file.
        while same and count < len(expected):
            with memoryview(buffer)[: length - count] as space:
                with self._timed():
                    got = os.preadv(descriptor, [space], start + count)
                same = got > 0 and space[:got] == expected[count : count + got]
            count += got
        with self._lock:
            if same:
                self._right += 1
            else:
                self._wrong.append(f"{place}: bytes {start} to {start + length}")

    @contextmanager
    def _timed(self) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self._slowest_s = max(self._slowest_s, time.monotonic() - begun)


def main(mount: str, model: str, seed: str, threads: str, frontend: str) -> None:
    reader = Reader(Path(mount), Path(model), int(seed), direct=frontend == "tree")
    running = [threading.Thread(target=reader.run, args=(number,)) for number in range(int(threads))]
    for thread in running:
        thread.start()
    sys.stdin.read()
    reader.ended.set()
    for thread in running:
        thread.join()
    sys.stdout.write(json.dumps(reader.met()._asdict()) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
