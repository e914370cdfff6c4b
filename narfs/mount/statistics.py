"""What one FUSE session was asked, and what it answered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class MountStatistics:
    """Requests by name and failures by errno name since the start; the rest is as of now."""

    requests: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    open_files: int = 0
    waiting: int = 0

    def __add__(self, other: MountStatistics) -> MountStatistics:
        return MountStatistics(
            requests=Counter(self.requests) + Counter(other.requests),
            failures=Counter(self.failures) + Counter(other.failures),
            bytes_read=self.bytes_read + other.bytes_read,
            open_files=self.open_files + other.open_files,
            waiting=self.waiting + other.waiting,
        )
