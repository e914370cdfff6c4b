"""The ways in which a lake can misbehave, as values: what is ordered of the proxy, and what it counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(StrEnum):
    """What is wrong. The last three are wrong with connections, and so with all paths at once."""

    RESET = "reset"
    """The connection is reset at byte ``at`` of the body, or before any answer."""
    STALL = "stall"
    """Nothing more comes from byte ``at`` of the body on, until the fault ends; then the connection is reset."""
    DRIP = "drip"
    """A byte each 0.2 s from byte ``at`` on, until the fault ends."""
    CUT = "cut"
    """The connection ends in order at byte ``at`` of the body."""
    STATUS = "5xx"
    """500, 502, 503 or 504."""
    BUSY = "429"
    """With Retry-After: 1."""
    LENGTH = "length"
    """Content-Length is more than what comes, or less."""
    IGNORED_RANGE = "ignored range"
    """200 and the whole object."""
    LYING_RANGE = "lying range"
    """The Content-Range that was asked for over other bytes, or another one over the right ones."""
    FLIP = "flip"
    """One bit of the body, at ``at``."""
    SWAP = "swap"
    """The bytes of another object of the same kind."""
    OLD = "old"
    """The bytes that were there before."""
    LOOP = "redirect loop"
    OFF = "redirect off"
    """A redirect to another port, where nobody may knock."""
    BOMB = "bomb"
    """A Content-Encoding that unpacks to 1 GiB."""
    REFUSE = "refuse"
    """Nobody listens."""
    CERTIFICATE = "certificate"
    """Of an authority that nobody trusts, or for another name."""
    DNS = "dns"
    """The name of the lake is unknown, its name server is in trouble or silent."""


CONNECTING = (Kind.REFUSE, Kind.CERTIFICATE, Kind.DNS)


@dataclass(frozen=True, slots=True)
class Order:
    """That something is to be wrong. What is None is drawn by lot for each request."""

    kind: Kind
    pattern: str = "*"
    """Of paths such as /nar/x."""
    share: float = 1.0
    """Of the requests that fit."""
    times: int | None = None
    at: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Order:
        return cls(**{**told, "kind": Kind(told["kind"])})


class Hits(NamedTuple):
    """How often a fault happened: to requests, and to those of them that were for bytes of a NAR.

    Of CONNECTING these are connections and questions that came to nothing: nobody knows what for.
    """

    requests: int = 0
    reads: int = 0

    def __add__(self, other: Hits) -> Hits:  # type: ignore[override]  # it is a sum, not a longer tuple
        return Hits(self.requests + other.requests, self.reads + other.reads)
