"""A lake that misbehaves on order, as a test or a benchmark holds it: nginx and the proxy before it, in a process.

::

    with faulty_lake(directory, work) as lake:
        lake.begin(Order(Kind.STALL, "/nar/*", at=1000))
        ...                                             # whoever reads lake.url meets it
        lake.end(Kind.STALL)
        lake.hits()[Kind.STALL]                         # Hits(requests=2, reads=2)
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.kinds import Hits, Kind, Order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "lake.narfs.test"


class FaultyLake:
    """Its ``url``, and for https the ``authority`` that vouches for it."""

    def __init__(self, process: subprocess.Popen[str], authority: Path) -> None:
        self._process = process
        self.authority = authority
        self.url: str = self._hear()["url"]

    def begin(self, order: Order) -> None:
        self._say({"begin": order.to_json()})

    def end(self, kind: Kind | None = None) -> None:
        """End a fault, or all of them; what hangs in it ends too."""
        self._say({"end": kind})

    def hits(self) -> dict[Kind, Hits]:
        return {Kind(kind): Hits(*hits) for kind, hits in self._say({})["counts"].items()}

    def trapped(self) -> int:
        """Count the connections to where a redirect off the lake leads."""
        trapped: int = self._say({})["trapped"]
        return trapped

    def _say(self, order: dict[str, object]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the proxy ended with {self._process.wait(10)}"
        return json.loads(line)


@contextmanager
def faulty_lake(
    directory: Path, work: Path, *, seed: int = 0, named: bool = False, inside: Sequence[str] = ()
) -> Iterator[FaultyLake]:
    """Serve the lake in ``directory``; ``named``: over TLS as NAME, which takes a world whose port 53 is free.

    ``inside`` is what brings a program into that world (``world.private_network``).
    """
    command = [*inside, sys.executable, "-m", "tests.faults.proxy", str(directory), str(work), f"--seed={seed}"]
    process = subprocess.Popen(
        [*command, *(["--name", NAME] if named else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    with process:
        try:
            yield FaultyLake(process, work / "authority.pem")
        finally:
            with suppress(BrokenPipeError):
                process.communicate(timeout=20)  # the end of its orders is the end of it, and of nginx
            process.kill()
