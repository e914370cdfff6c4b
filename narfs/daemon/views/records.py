"""What is kept on disk of the Views of a daemon, for the next one to make them again.

::

    STATE/views/NAME.json      ViewSpec, as said on the socket: what is to be
    STATE/views/NAME.shown     what the kernel shows of it, while it is mounted by EROFS
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from narfs.daemon.erofs.shown import Shown
from narfs.daemon.views.spec import ViewSpec
from narfs.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Records:
    """Those in ``directory``, which is there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """Name the Views that are to be."""
        return sorted(file.stem for file in self._directory.glob("*.json"))

    def read(self, name: str) -> ViewSpec:
        """Read what is to be; UsageError, ValueError, OSError."""
        try:
            return ViewSpec.from_json(json.loads((self._directory / f"{name}.json").read_text()))
        except RecursionError as error:
            raise ValueError("deeper than anything that is kept of a view") from error

    def write(self, spec: ViewSpec, shown: Shown | None) -> None:
        """Write it, whole or not at all; Unavailable."""
        with self._changing(spec.name):
            if shown is not None:
                shown.write(self._directory / f"{spec.name}.shown")
            file = self._directory / f"{spec.name}.json"
            new = file.with_suffix(".new")
            with new.open("w") as out:
                json.dump(spec.to_json(), out)
                out.flush()
                os.fsync(out.fileno())
            new.replace(file)

    def shown(self, name: str) -> Shown | None:
        """Read what the kernel was shown, if it was."""
        return Shown.read(self._directory / f"{name}.shown")

    def remove(self, name: str) -> None:
        """Forget a View; Unavailable."""
        with self._changing(name):
            for suffix in ("json", "shown"):
                (self._directory / f"{name}.{suffix}").unlink(missing_ok=True)

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"view {name}: {self._directory} takes no change: {error.strerror}") from error
