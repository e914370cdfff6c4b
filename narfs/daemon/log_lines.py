"""The log: what strangers named appears in it, and nothing that its reader's terminal would obey."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from narfs.formats.quote import one_line

if TYPE_CHECKING:
    from types import TracebackType

    _ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter):
    """A message is one line; only the traceback of a bug has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format all but the traceback."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """Format the traceback."""
        return "\n".join(map(one_line, super().formatException(ei).split("\n")))
