"""A ``narfs daemon`` under load, and what it has in its hands: memory, descriptors, threads, tasks."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.cli.program import make_program
from tests.cli.test_daemon import daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.program import Process, Program


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
        return self.program.ask(operation, **arguments)

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
    with (
        make_program() as program,
        daemon(program, "--no-profile", "--prefetch-bytes", "0", *options) as process,
    ):
        yield House(program, process)
