"""Whether a failed attempt is repeated, and after how long. A plain decision; the caller waits.

::

    broken connection, 5xx, 408, 429    again, up to ``attempts`` in all
    silence until a deadline            again, but up to STALL_ATTEMPTS in all: each has cost its whole deadline
    501, 505, 511, every other status   no: the next answer would be the same
    Retry-After                         obeyed up to MAX_RETRY_AFTER_S; longer than that, no

Without a Retry-After the n-th pause is 0.25 s times 2^(n-1), at most MAX_PAUSE_S, of which a random half is left out: a
thousand workers that lost the same server do not come back in the same moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime

STALL_ATTEMPTS = 2
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 10.0
MAX_RETRY_AFTER_S = 60.0

_FINAL_5XX = frozenset({501, 505, 511})
_PASSING_4XX = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed: with a status, by silence, for good, or (nothing set) with a broken connection."""

    status: int | None = None
    retry_after: str | None = None
    stalled: bool = False
    final: bool = False

    @property
    def may_pass(self) -> bool:
        """Whether asking again can help at all."""
        if self.status is None:
            return not self.final
        return self.status in _PASSING_4XX or (500 <= self.status < 600 and self.status not in _FINAL_5XX)


def pause_before_retry(
    failure: Failure, *, attempt: int, attempts: int, jitter: float, unix_time_s: float
) -> float | None:
    """Give the seconds to wait before the next attempt; None: give up.

    ``attempt`` counts from 1 and is the one that failed, ``jitter`` is random in [0, 1).
    """
    allowed = min(attempts, STALL_ATTEMPTS) if failure.stalled else attempts
    if attempt >= allowed or not failure.may_pass:
        return None
    asked = _retry_after_s(failure.retry_after, unix_time_s)
    if asked is not None:
        return asked if asked <= MAX_RETRY_AFTER_S else None
    pause = min(FIRST_PAUSE_S * 2.0 ** (attempt - 1), MAX_PAUSE_S)
    return pause * (1 - jitter / 2)


def _retry_after_s(value: str | None, unix_time_s: float) -> float | None:
    """Read a Retry-After, seconds or a date; None if there is none that can be understood."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - unix_time_s)
    except (ValueError, OverflowError):
        return None
