"""Health: whether the cache disk takes writes, and when to try again.

While it does not, writes fail at once with CacheUnusable and the engine serves uncached; reads go on. One warning
marks the beginning of the trouble, one line its end.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from narfs.errors import CacheUnusable

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_S: Final = 5.0
_LONGEST_BACKOFF_S: Final = 300.0


class Health:
    """Of one cache directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._trouble: str | None = None
        self._retry_at = 0.0
        self._backoff_s = _FIRST_BACKOFF_S

    @property
    def usable(self) -> bool:
        """Whether a write may be tried now."""
        return self._trouble is None or trio.current_time() >= self._retry_at

    @property
    def in_trouble(self) -> bool:
        """Whether the last write failed."""
        return self._trouble is not None

    def require(self) -> None:
        """Raise CacheUnusable unless a write may be tried now."""
        if not self.usable:
            raise CacheUnusable(f"cache {self._directory}: {self._trouble}")

    def failed(self, cause: object) -> CacheUnusable:
        """Note that a write failed; gives the error to raise."""
        if self._trouble is None:
            _log.warning("cache %s: %s; serving uncached, will try again", self._directory, cause)
            self._backoff_s = _FIRST_BACKOFF_S
        elif self.usable:  # the trial after a back-off failed too; failures that were under way together count once
            self._backoff_s = min(2 * self._backoff_s, _LONGEST_BACKOFF_S)
        else:
            return CacheUnusable(f"cache {self._directory}: {cause}")
        self._trouble = str(cause)
        self._retry_at = trio.current_time() + self._backoff_s
        return CacheUnusable(f"cache {self._directory}: {cause}")

    def worked(self) -> None:
        """Note that a write worked."""
        if self._trouble is not None:
            _log.info("cache %s takes writes again", self._directory)
            self._trouble = None
