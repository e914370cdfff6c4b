"""Through: asking through httpx, for uploads and where the environment names a proxy. The only module with httpx.

It is loaded when it is needed: importing httpx takes 65 ms of processor, two thirds of that for its command line.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import trio

from narfs.errors import UsageError
from narfs.lake.response import FOREIGN, BrokenError, ImpossibleError, Response, StalledError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator, Mapping

    from narfs.lake.settings import LakeSettings

_CLOSE_DEADLINE_S = 1.0
_FINAL = (httpx.InvalidURL, httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.StreamError)


class Through:
    """Asks through ``client``, which it closes."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    @classmethod
    def open(
        cls, settings: LakeSettings, context: ssl.SSLContext, headers: Mapping[str, str], *, keep_alive_s: float
    ) -> Through:
        """Make it; UsageError if a proxy variable makes no sense."""
        kept = settings.short_requests + settings.long_bodies
        try:
            return cls(
                httpx.AsyncClient(
                    verify=context,
                    # The transports bound what is in flight, so nothing ever waits for a connection.
                    limits=httpx.Limits(
                        max_connections=None, max_keepalive_connections=kept, keepalive_expiry=keep_alive_s
                    ),
                    timeout=httpx.Timeout(settings.stall_deadline_s, connect=settings.connect_deadline_s),
                    headers=headers,
                    follow_redirects=False,
                    trust_env=True,
                )
            )
        except (ValueError, httpx.InvalidURL, ImportError) as error:  # of a package for socks5://
            raise UsageError(f"a proxy variable of the environment makes no sense: {error}") from error

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | AsyncIterable[bytes] | None
    ) -> Response:
        """Ask once and give the answer, whatever its status; FOREIGN if there is none."""
        with _translated():
            request = self.client.build_request(method, url, headers=headers, content=content)
            if isinstance(content, AsyncIterable):
                request.stream = _Upload(content)
            return _HttpxResponse(await self.client.send(request, stream=True))

    async def aclose(self) -> None:
        """Hang up."""
        await self.client.aclose()


class _Upload(httpx.AsyncByteStream):
    """Chunks as a body. httpx's own would leave a generator to the garbage collector when the connection breaks."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._chunks)


class _HttpxResponse(Response):
    """What httpx answered."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code, response.headers)
        self._response = response
        self._body = response.aiter_raw()

    async def next_chunk(self) -> bytes | None:
        """Give the next bytes of the body."""
        with _translated():
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
        with trio.CancelScope(shield=True, relative_deadline=_CLOSE_DEADLINE_S), suppress(*FOREIGN), _translated():
            await self._response.aclose()


def escaped(url: str) -> str:
    """Escape what a URL may not hold; ImpossibleError on control characters."""
    with _translated():
        return str(httpx.URL(url))


def bundled_authorities() -> ssl.SSLContext:
    """Trust the certificate authorities that httpx brings."""
    return httpx.create_ssl_context()


@contextmanager
def _translated() -> Iterator[None]:
    """Say what httpx raises in our words."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise StalledError("no connection within the deadline") from error
    except httpx.TimeoutException as error:
        raise StalledError(str(error) or "nothing came within the deadline") from error
    except _FINAL as error:
        raise ImpossibleError(str(error) or type(error).__name__) from error
    except httpx.HTTPError as error:
        raise BrokenError(str(error) or type(error).__name__) from error
