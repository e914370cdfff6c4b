"""LakeSettings: how patient the lake wing is, how much it does at once, and whose credentials it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from narfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeSettings:
    """Settings of all lakes of one process. Seconds bound what their comment says and nothing else."""

    connect_deadline_s: float = 10.0
    """One connection, with name resolution and the TLS handshake."""
    stall_deadline_s: float = 30.0
    """Time without a single byte, or with hardly any (``body``); a slow but moving stream may take for ever."""
    small_object_deadline_s: float = 120.0
    """One small object or range with all its attempts."""
    attempts: int = 5
    """Attempts at one request without progress between them; Nix's ``download-attempts``."""
    short_requests: int = 32
    """Small objects and ranges in flight, per lake."""
    long_bodies: int = 16
    """Streams and uploads in flight, per lake; a bound of their own, so that a narinfo never waits for a NAR."""
    negative_ttl_s: float = 60.0
    """How long an absence is remembered."""
    optional_rest_s: float = 60.0
    """How long an ``?optional=1`` lake in trouble counts as absent before it is asked again."""
    netrc_file: Path | None = None
    """Credentials by host name; a file that is not there means none, as with Nix."""
    ssl_cert_file: Path | None = None
    """Certificate authorities for https; None means those of the system."""

    def __post_init__(self) -> None:
        deadlines = (self.connect_deadline_s, self.stall_deadline_s, self.small_object_deadline_s)
        if min(deadlines) <= 0 or min(self.attempts, self.short_requests, self.long_bodies) < 1:
            raise UsageError("deadlines of lakes are above 0 s, attempts and bounds at least 1")
        if min(self.negative_ttl_s, self.optional_rest_s) < 0:
            raise UsageError("times that lakes are remembered for cannot be negative")
