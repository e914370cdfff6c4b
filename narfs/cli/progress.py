"""The progress bar of long work."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from narfs.publish.progress import Progress as Passed


@contextmanager
def progress_bar() -> Iterator[Callable[[Passed], None]]:
    """Show a bar on standard error if a person looks at it; the function it gives moves it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def advance(progress: Passed) -> None:
            bar.update(task, description=progress.subject, completed=progress.done_bytes, total=progress.total_bytes)

        yield advance
