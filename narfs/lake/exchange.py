"""One question to an HTTP lake and its answer, and the door where what clients raise becomes what narfs raises.

Redirects are followed inside the lake's own origin only (scheme, host and port). A lake could otherwise point the
daemon, which often runs as root inside somebody's network, at any host it can reach. One that leads elsewhere is
Unavailable: it may come from the login page of a network, and be gone after the login.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin

import trio

from narfs.errors import NarfsError, NotFound, TooSlow, Unavailable
from narfs.lake.answer import MAX_ERROR_BODY_BYTES, means_absent
from narfs.lake.client import credentials
from narfs.lake.response import FOREIGN, BadStatusError, ImpossibleError, StalledError
from narfs.lake.retry import Failure, pause_before_retry
from narfs.lake.transport import TransportCounters

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping

    from narfs.lake.client import LakeClient
    from narfs.lake.response import Response
    from narfs.lake.settings import LakeSettings
    from narfs.lake.store_url import StoreUrl

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_MAX_REDIRECTS = 5
_USABLE = frozenset({200, 201, 202, 204, 206})
_RANGE_UNSATISFIED = 416


class Exchange:
    """Asks one lake. ``admitted`` becomes true once nix-cache-info was read with these credentials."""

    def __init__(
        self,
        client: LakeClient,
        url: StoreUrl,
        settings: LakeSettings,
        *,
        jitter: Callable[[], float] = random.random,
        unix_time_s: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._url = url
        self._credentials = credentials(url, settings)
        self._attempts = settings.attempts
        self.stall_deadline_s = settings.stall_deadline_s
        self._jitter = jitter
        self._unix_time_s = unix_time_s
        self.counters = TransportCounters()
        self.admitted = False

    def url_of(self, name: str) -> str:
        """Give the URL of an object."""
        return f"{self._url}/{name}"

    async def ask(
        self,
        method: str,
        name: str,
        *,
        headers: Mapping[str, str],
        content: bytes | AsyncIterable[bytes] | None = None,
    ) -> Response:
        """Ask once and give an answer that is good (2xx, or 416 to a Range); the caller closes it.

        NotFound if the object is absent, Unavailable on a redirect to another origin, on all else one of FOREIGN.
        """
        url = self.url_of(name)
        for _ in range(_MAX_REDIRECTS):
            self.counters.requests += 1
            answer = await self._client.ask(method, url, headers={**headers, **self._credentials}, content=content)
            if answer.status in _USABLE or (answer.status == _RANGE_UNSATISFIED and "Range" in headers):
                return answer
            try:
                # Also read for the sake of the connection, which can be used again only after a whole body.
                body = await answer.read_up_to(MAX_ERROR_BODY_BYTES)
            finally:
                await answer.aclose()
            location = answer.headers.get("location")
            if not 300 <= answer.status < 400 or location is None or content is not None:
                break
            url = self._redirected(url, location)
        if means_absent(answer.status, body, admitted=self.admitted):
            raise NotFound(f"{url}: is not there")
        raise BadStatusError(answer.status, answer.headers.get("retry-after"))

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        name: str,
        *,
        headers: Mapping[str, str],
        content: bytes | AsyncIterable[bytes] | None = None,
    ) -> AsyncIterator[Response]:
        """Ask once, and close the answer afterwards."""
        answer = await self.ask(method, name, headers=headers, content=content)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def repeat(self, name: str, once: Callable[[], Awaitable[_T]]) -> _T:
        """Call ``once`` until it succeeds or is not worth repeating."""
        attempt = 1
        while True:
            try:
                return await once()
            except FOREIGN as error:
                await self.recover(name, error, attempt=attempt)
                attempt += 1

    async def recover(self, name: str, error: Exception, *, attempt: int) -> None:
        """Return when it is time for the next attempt, or raise what ``error`` means if there should be none."""
        pause_s = pause_before_retry(
            _failure(error),
            attempt=attempt,
            attempts=self._attempts,
            jitter=self._jitter(),
            unix_time_s=self._unix_time_s(),
        )
        if pause_s is None:
            raise translated(error, self.url_of(name)) from error
        _log.debug("%s: attempt %d: %s; again in %.2f s", self.url_of(name), attempt, _reason(error), pause_s)
        self.counters.retries += 1
        await trio.sleep(pause_s)

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
        except ValueError:  # it is no URL, so of no origin
            target = location
        if not self._url.has_same_origin(target):
            raise Unavailable(
                f"{url}: redirects to another origin, {target.partition('?')[0]!r}, which narfs does not follow: "
                "if that is where the lake lives now, give its URL as the store"
            )
        return target


def translated(error: Exception, url: str) -> NarfsError:
    """Say what one of FOREIGN means. The one table of the HTTP lake."""
    if isinstance(error, StalledError):
        return TooSlow(f"{url}: {_reason(error)}")
    if isinstance(error, BadStatusError) and error.status in (401, 403, 407):
        return Unavailable(
            f"{url}: answered {error.status}: check the credentials (netrc-file, or user:password@ in the URL)"
        )
    return Unavailable(f"{url}: {_reason(error)}")


def _failure(error: Exception) -> Failure:
    if isinstance(error, BadStatusError):
        return Failure(status=error.status, retry_after=error.retry_after)
    if isinstance(error, StalledError):
        return Failure(stalled=True)
    return Failure(final=isinstance(error, ImpossibleError) or _certificate_error(error) is not None)


def _reason(error: Exception) -> str:
    if certificate := _certificate_error(error):
        return f"its certificate is not trusted ({certificate.verify_message}): see ssl-cert-file"
    return f"{error}" or type(error).__name__


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause
