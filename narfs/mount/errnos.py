"""What a program sees of each failure: the one table, and the one place where failures are counted and logged."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from narfs import errors
from narfs.errors import NarfsError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

ERRNOS: Final[Mapping[type[NarfsError], int]] = {
    NarfsError: errno.EIO,
    errors.NotFound: errno.ENOENT,
    errors.WrongKind: errno.EINVAL,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.NotASymlink: errno.EINVAL,
    errors.Unavailable: errno.EIO,
    errors.TooSlow: errno.ETIMEDOUT,
    errors.OverQuota: errno.EDQUOT,
    errors.Untrusted: errno.EACCES,
    errors.Corrupt: errno.EIO,
    errors.FormatError: errno.EIO,
    errors.ReadOnly: errno.EROFS,
    errors.Closing: errno.ENOTCONN,
    errors.OwnerGone: errno.ENOTCONN,
    errors.CacheUnusable: errno.EIO,
    errors.CacheHeld: errno.EIO,
    errors.UsageError: errno.EINVAL,
}
"""What a program sees of each failure. A test holds that nothing in errors.py is missing."""

_EXPECTED = (errors.NotFound, errors.WrongKind, errors.ReadOnly, errors.Closing)
"""A program asked for what is not there, or the mount is going away: nobody needs to read of it."""

_SAID_MOST = 1000
"""Messages remembered as said; forgetting early only says something twice."""


def errno_of(error: Exception) -> int:
    """Translate; whatever is not of our own tree is a bug and shows as EIO, but a lack of memory."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    return ERRNOS.get(type(error), errno.EIO) if isinstance(error, NarfsError) else errno.EIO


class Failures:
    """Failures of one mount: counted by errno, logged as a warning the first time and for debugging after that."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._said: set[str] = set()

    def by_name(self) -> dict[str, int]:
        """Give the counts by the names of errno."""
        return {errno.errorcode.get(number, str(number)): count for number, count in self._counts.items()}

    def count(self, number: int) -> None:
        """Count an answer that was logged before."""
        self._counts[number] += 1

    def answer(self, operation: str, error: Exception) -> int:
        """Log and count a failure and give its errno."""
        number = errno_of(error)
        self._counts[number] += 1
        if isinstance(error, MemoryError):
            error = Unavailable("no memory left")
        if not isinstance(error, NarfsError):
            _log.error("%s: a bug in narfs", operation, exc_info=error)
            return number
        text = f"{operation}: {error} ({errno.errorcode[number]})"
        quiet = error.told or isinstance(error, _EXPECTED) or text in self._said
        _log.log(logging.DEBUG if quiet else logging.WARNING, "%s", text)
        if len(self._said) >= _SAID_MOST:
            self._said.clear()
        self._said.add(text)
        return number
