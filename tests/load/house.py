"""A ``narfs daemon`` under load, and what it has in its hands: memory, descriptors, threads, tasks."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from narfs.daemon import control
from tests.cli.program import make_program
from tests.mount.kernel import unmount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.program import Process, Program

PATIENCE_S = 60


class Held(NamedTuple):
    """What the process has; memory is resident, in bytes."""

    resident: int
    anonymous: int
    descriptors: int
    threads: int
    tasks: int


class House:
    """A daemon that runs; its lake and directories are ``program``'s."""

    def __init__(self, program: Program, process: Process) -> None:
        self.program = program
        self.pid = process.pid

    def ask(self, operation: str, **arguments: object) -> Any:
        socket = self.program.home / "runtime_dir/narfs" / control.DAEMON_SOCKET
        return control.ask(socket, operation, arguments, deadline_s=600)

    def show(self, name: str, closure: str, frontend: str) -> Path:
        """Make a view; give its directory."""
        facts = self.ask("view-create", name=name, closures=[closure], settings={"frontend": frontend})
        return Path(facts["directory"])

    def requests(self) -> int:
        """Count what the kernel has asked so far."""
        return int(sum(self.ask("status")["requests"]["requests"].values()))

    def held(self) -> Held:
        process = Path(f"/proc/{self.pid}")
        told = dict(line.split(":", 1) for line in (process / "status").read_text("ascii").splitlines())
        return Held(
            resident=int(told["VmRSS"].split()[0]) * 1024,
            anonymous=int(told["RssAnon"].split()[0]) * 1024,
            descriptors=sum(1 for _ in (process / "fd").iterdir()),
            threads=int(told["Threads"]),
            tasks=self.ask("status")["daemon"]["tasks"],
        )


@contextmanager
def make_house(*options: str) -> Iterator[House]:
    """Run a daemon until the end of the block; nothing of it is left then."""
    with make_program() as program:
        process = program.start("daemon", *program.stores, "--no-profile", "--prefetch-bytes", "0", *options)
        try:
            house = House(program, process)
            _wait_until_it_answers(house, process)
            yield house
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.communicate()
            for line in reversed(Path("/proc/self/mountinfo").read_text("latin-1").splitlines()):
                if (place := line.split()[4]).startswith(f"{program.home}/"):
                    unmount(Path(place))


def _wait_until_it_answers(house: House, process: Process) -> None:
    for _ in range(PATIENCE_S * 20):
        assert process.poll() is None, "the daemon ended"
        try:
            house.ask("status")
        except Exception:  # noqa: BLE001 - not yet
            signal.sigtimedwait([], 0.05)
        else:
            return
    raise AssertionError("the daemon did not answer")
