"""What failed last, and until when nobody tries again.

1 s at first, because the kernel asks twice at once. Then twice as long each time: up to 60 s if the bytes were wrong,
because a NAR that does not match its NarHash must not be streamed again for each of a thousand reads; up to 4 s if a
lake was in trouble, because its return must be noticed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from narfs.errors import OverQuota, Unavailable, again

if TYPE_CHECKING:
    from narfs.errors import NarfsError

_FIRST_S = 1.0
_LONGEST_S = 60.0
_LONGEST_TROUBLE_S = 4.0


class Backoff:
    """Of one piece of work that may be tried again."""

    def __init__(self) -> None:
        self._error: NarfsError | None = None
        self._retry_at = 0.0
        self._rest_s = _FIRST_S

    def failed(self, error: NarfsError, *, for_ever: bool = False) -> None:
        """Note a failure; each one doubles the rest. A quota is its owner's trouble, and no reason to rest."""
        if isinstance(error, OverQuota):
            return
        self._error = error
        self._retry_at = math.inf if for_ever else trio.current_time() + self._rest_s
        self._rest_s = min(2 * self._rest_s, _LONGEST_TROUBLE_S if isinstance(error, Unavailable) else _LONGEST_S)

    def worked(self) -> None:
        """Note a success: the next rest is the first again."""
        self._rest_s = _FIRST_S

    @property
    def resting(self) -> bool:
        """Whether it may not be tried again yet."""
        return self._error is not None and trio.current_time() < self._retry_at

    def require(self) -> None:
        """Raise a copy of the last failure unless it may be tried again."""
        if self._error is not None and self.resting:
            raise again(self._error) from self._error
        self._error = None
