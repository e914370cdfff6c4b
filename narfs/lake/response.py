"""Response: an answer whose body is still to be read. One task reads it; whoever has it closes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import trio

if TYPE_CHECKING:
    from collections.abc import Mapping


class BadStatusError(Exception):
    """The server answered, but not with what was asked for."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"answered {status}")
        self.status = status
        self.retry_after = retry_after


FOREIGN = (
    BadStatusError,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,  # with ssl.SSLError; httpx wraps those it knows of
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""Everything an attempt fails with when a network or a server misbehaves; httpx's words are used where they fit."""

_CLOSE_DEADLINE_S = 1.0


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


class HttpxResponse(Response):
    """What httpx answered."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code, response.headers)
        self._response = response
        self._body = response.aiter_raw()

    async def next_chunk(self) -> bytes | None:
        """Give the next bytes of the body."""
        return await anext(self._body, None)

    async def aclose(self) -> None:
        """Let go."""
        if self._response.is_closed:
            return
        # aclose() would finish only the outermost of httpx's nested generators and leave five to the garbage collector.
        # A read that is cancelled at once unwinds them all, and httpcore closes the connection on the way out.
        with trio.CancelScope(shield=True) as scope, suppress(*FOREIGN):
            scope.cancel()
            while await self.next_chunk() is not None:
                pass
        with trio.CancelScope(shield=True, relative_deadline=_CLOSE_DEADLINE_S), suppress(*FOREIGN):
            await self._response.aclose()
