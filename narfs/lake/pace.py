"""Pace: whether a body still comes. A byte now and then is as good as none, and would hold its place for ever. Pure."""

from __future__ import annotations

SLOWEST_BYTES_PER_S = 256
"""All 48 bodies of a lake at once still get that over 100 kbit/s."""


class Pace:
    """Of one body, looked at each time that somebody has waited for it for ``window_s`` in all."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._waited_s, self._came = 0.0, 0

    def keeps_up(self, waited_s: float, nbytes: int) -> bool:
        """Note what came, and how long it was waited for; say whether that is enough."""
        self._waited_s += waited_s
        self._came += nbytes
        if self._waited_s < self._window_s:
            return True
        enough = self._came >= SLOWEST_BYTES_PER_S * self._waited_s
        self._waited_s, self._came = 0.0, 0
        return enough
