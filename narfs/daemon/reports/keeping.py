"""Writing Reports to files."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from narfs.daemon.reports.page import page
from narfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path


def keep_page(told: Mapping[str, Any], file: Path) -> None:
    """Write the page of a Report."""
    try:
        file.write_text(page(told), encoding="utf-8")
    except OSError as error:
        raise _unwritable(file, error) from error


@contextmanager
def keeping(files: Iterable[Path]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Open files, and give what writes a Report to all: a page if the name ends in .html, else JSON.

    They are opened before, because a view must not be gone when it turns out that its Report cannot be kept.
    """
    with ExitStack() as stack:
        opened = []
        for file in files:
            try:
                opened.append((file, stack.enter_context(file.open("wb", buffering=0))))
            except OSError as error:
                raise _unwritable(file, error) from error

        def keep(told: Mapping[str, Any]) -> None:
            for file, out in opened:
                text = page(told) if file.suffix.lower() == ".html" else json.dumps(told, indent=2) + "\n"
                rest = memoryview(text.encode())
                try:
                    while rest:  # without a buffer, which would be written again when all is over, and fail again
                        rest = rest[out.write(rest) :]
                except OSError as error:
                    raise _unwritable(file, error) from error

        yield keep


def _unwritable(file: Path, error: OSError) -> UsageError:
    return UsageError(f"{file}: cannot be written: {error.strerror}")
