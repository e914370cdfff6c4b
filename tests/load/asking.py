"""A program that asks a mount for as much as it can. ``python -m tests.load.asking DIRECTORY FILES THREADS SECONDS``.

Each of its threads opens random files, reads them, drops their pages and closes them: three requests to the server
behind a mount of directories. In the end it prints how many it did, what was wrong, and how long they took.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time

from tests.load.tree import contents_of, name_of


class Asker:
    """What several threads do until their time is over."""

    def __init__(self, directory: str, files: int, seconds: float) -> None:
        self.took: list[float] = []
        self.wrong: list[str] = []
        self._directory = directory
        self._files = files
        self._until = time.monotonic() + seconds

    def run(self, thread: int) -> None:
        chance = random.Random(thread)  # noqa: S311 - lots, no secrets
        while (begun := time.monotonic()) < self._until and not self.wrong:
            number = chance.randrange(self._files)
            try:
                fd = os.open(f"{self._directory}/{name_of(number)}", os.O_RDONLY)
                try:
                    found = os.read(fd, 4096)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(fd)
            except OSError as error:
                self.wrong.append(f"{number}: {error}")
                return
            if found != contents_of(number):
                self.wrong.append(f"{number}: {found!r}")
            self.took.append(time.monotonic() - begun)


def main() -> None:
    directory, files, threads, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    asker = Asker(directory, files, seconds)
    running = [threading.Thread(target=asker.run, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    took = sorted(asker.took) or [0.0]
    p50, p99 = (took[len(took) * place // 100] for place in (50, 99))
    told = {"done": len(took), "wrong": asker.wrong[:10], "p50_s": p50, "p99_s": p99, "slowest_s": took[-1]}
    print(json.dumps(told))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
