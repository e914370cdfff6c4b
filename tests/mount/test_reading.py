"""Requests that the kernel takes back after it said that there is one, or that there is no memory or no room for."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from narfs import addresses
from narfs.errors import UsageError
from narfs.mount.fuse import reading
from narfs.mount.view import View
from tests.mount.kernel import PATIENCE_S, mounted, needs_fuse, unmount

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.mount, needs_fuse]

KILLING = """if 1:
    import os, select, subprocess, sys, trio
    from pathlib import Path
    from narfs.mount.fuse import Stage, serve_mount

    class Killing(trio.abc.Instrument):
        '''Kills who asks, when the loop has heard of a request and has not read it.'''

        asking = None

        def after_io_wait(self, timeout):
            if self.asking is not None and select.select([self.session], [], [], 0)[0]:
                self.asking.kill()
                self.asking.wait()
                self.asking = None
                assert not select.select([self.session], [], [], 0)[0]

    def session():
        for fd in os.listdir("/proc/self/fd"):
            if os.path.lexists(link := f"/proc/self/fd/{fd}") and os.readlink(link) == "/dev/fuse":
                return int(fd)

    async def main():
        place, ready, killing = Path(sys.argv[1]), trio.Event(), Killing()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: serve_mount(Stage(), place, on_ready=lambda _: ready.set()))
            await ready.wait()
            killing.session = session()
            trio.lowlevel.add_instrument(killing)
            for number in range(20):
                killing.asking = subprocess.Popen(["stat", place / str(number)], stderr=subprocess.DEVNULL)
                while killing.asking is not None:
                    await trio.sleep(0.001)
            done = await trio.run_process(["stat", place / "other"], check=False, capture_stderr=True)
            print(done.stderr.decode())
            nursery.cancel_scope.cancel()

    trio.run(main)
"""


def test_who_is_killed_before_his_request_is_read_stops_nobody(tmp_path: Path) -> None:
    """In a process of its own: what waits in the kernel there holds the interpreter's lock."""
    place = tmp_path / "m"
    place.mkdir()
    try:
        done = subprocess.run(
            [sys.executable, "-c", KILLING, place], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    finally:
        unmount(place)
    assert done.stderr == ""
    assert "No such file or directory" in done.stdout


async def test_a_pyfuse3_that_narfs_does_not_know_is_named_before_anything_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_loop", None)
    refusal = pytest.RaisesExc(UsageError, match=r"pyfuse3 3\..*pip install")
    with pytest.RaisesGroup(refusal, flatten_subgroups=True):
        async with mounted(View.of([]), tmp_path):
            pass


async def test_a_request_waits_for_memory_to_be_read_into(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - nobody waits a second for it
) -> None:
    failures = [errno.ENOMEM, errno.EAGAIN, errno.ENOMEM]

    async def pyfuse3_s(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        if failures:
            raise OSError(failures.pop(), "fuse_session_receive_buf failed")

    monkeypatch.setattr(reading, "_loop", pyfuse3_s)
    begun = trio.current_time()
    await reading._patient_loop()
    assert failures == []
    assert trio.current_time() - begun == 2
    failures.append(errno.EIO)
    with pytest.raises(OSError, match="receive_buf") as failed:
        await reading._patient_loop()
    assert failed.value.errno == errno.EIO


async def test_without_room_for_it_a_request_stays_with_the_kernel_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - nobody waits for it
) -> None:
    there_are = [True]

    async def pyfuse3_s() -> bool:
        await trio.lowlevel.checkpoint()
        return there_are[0]

    monkeypatch.setattr(reading, "_asked", pyfuse3_s)
    monkeypatch.setattr(addresses, "_ROOM_BYTES", 1 << 60)
    admission, begun = reading._Admission(), trio.current_time()
    taken = [trio.current_time() - begun for _ in range(3) if await admission.wait()]
    assert taken == pytest.approx([0, 0.1, 0.2], abs=0.02)
    monkeypatch.setattr(addresses, "_ROOM_BYTES", 4096)
    assert await admission.wait()
    assert trio.current_time() - begun == pytest.approx(taken[-1])
    there_are[0] = False
    assert not await admission.wait()
