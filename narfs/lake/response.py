"""Response: an answer whose body is still to be read. One task reads it; whoever has it closes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping


class BadStatusError(Exception):
    """The server answered, but not with what was asked for."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"answered {status}")
        self.status = status
        self.retry_after = retry_after


class BrokenError(Exception):
    """The other side hung up in the middle, or said what makes no sense: the next time it may not."""


class StalledError(Exception):
    """Nothing came within a deadline."""


class ImpossibleError(Exception):
    """It cannot be asked like this, however often."""


FOREIGN = (
    BadStatusError,
    BrokenError,
    StalledError,
    ImpossibleError,
    OSError,  # with ssl.SSLError
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""Everything an attempt fails with when a network or a server misbehaves."""


class Response(ABC):
    """A status, headers (names in lower case) and a body as it is sent."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers

    @abstractmethod
    async def next_chunk(self) -> bytes | None:
        """Give the next bytes of the body as the network gave them; None at its end."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go; the connection is kept if the body was read to its end, else closed."""

    async def read_up_to(self, max_bytes: int) -> bytes:
        """Read the body; one that is longer than ``max_bytes`` is cut somewhere behind them."""
        chunks, size = [], 0
        while size <= max_bytes and (chunk := await self.next_chunk()) is not None:
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)
