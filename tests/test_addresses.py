"""Addresses: of a process with a limit, which is another one."""

from __future__ import annotations

import subprocess
import sys

THREADS = """if 1:
    import mmap, resource, sys, threading
    from pathlib import Path
    from narfs import addresses

    def size():
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE

    def work():
        kept.append([bytes(1000) for _ in range(100)])
        everybody.wait()

    kept, everybody = [], threading.Barrier(4)
    limit = size() + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    assert addresses.are_limited() and addresses.have_room()
    addresses.spare_them()
    before = size()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    print(size() - before)
    with mmap.mmap(-1, limit - size() - (2 << 20), flags=mmap.MAP_PRIVATE):
        assert not addresses.have_room()
    assert addresses.have_room()
"""


def test_threads_take_few_and_what_is_left_is_known() -> None:
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert int(done.stdout) < 8 << 20
