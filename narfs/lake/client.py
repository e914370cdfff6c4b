"""LakeClient: what the lakes of one process share to ask over HTTP: connections, certificates and proxies.

What is only read is asked directly (``direct``). Uploads go through httpx, and so does everything where the
environment names a proxy (``http_proxy``, ``https_proxy``, ``all_proxy``): httpx knows how to talk to one, and what
``no_proxy`` means.

HTTP/1.1 only: HTTP/2 in httpx is 3 to 5 times slower and its window allows 6.5 MB/s at 10 ms RTT. Redirects are not
followed here.

Certificate authorities: ``NIX_SSL_CERT_FILE``, else the setting, else ``SSL_CERT_FILE``, else the system's bundle, else
the one that httpx brings. Credentials: the URL's own, else netrc by host name, sent with the first request.
"""

from __future__ import annotations

import netrc
import ssl
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

from narfs import __version__
from narfs.errors import UsageError
from narfs.lake.direct import KEEP_ALIVE_S, DirectClient
from narfs.lake.link import Dialler

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Mapping
    from types import TracebackType

    from narfs.lake.response import Response
    from narfs.lake.settings import LakeSettings
    from narfs.lake.store_url import StoreUrl
    from narfs.lake.through import Through

_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/nix/var/nix/profiles/default/etc/ssl/certs/ca-bundle.crt",
)
_USER_AGENT = f"narfs/{__version__}"


class LakeClient:
    """Asks over HTTP; a context manager that hangs up. ``proxied``: the schemes whose URLs may have a proxy."""

    def __init__(self, direct: DirectClient, make_through: Callable[[], Through], proxied: frozenset[str]) -> None:
        self.direct = direct
        self.proxied = proxied
        self._make_through = make_through
        self._through: Through | None = None

    @property
    def through(self) -> Through:
        """What uploads and proxies take, made when first needed; UsageError if a proxy variable makes no sense."""
        if self._through is None:
            self._through = self._make_through()
        return self._through

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | AsyncIterable[bytes] | None = None
    ) -> Response:
        """Ask once and give the answer, whatever its status; FOREIGN if there is none."""
        if content is None and url.partition(":")[0] not in self.proxied:
            return await self.direct.ask(method, url, {"User-Agent": _USER_AGENT, **headers})
        return await self.through.ask(method, url, headers=headers, content=content)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.direct.close()
        if self._through is not None:
            await self._through.aclose()


def make_client(settings: LakeSettings, *, tls: bool, environ: Mapping[str, str]) -> LakeClient:
    """Make the client; the caller closes it. Certificates (20 ms) are loaded only for ``tls``: some lake is https."""
    kept = settings.short_requests + settings.long_bodies
    context = _tls_context(settings, environ) if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    proxies = getproxies()
    proxied = frozenset(scheme for scheme in ("http", "https") if proxies.get(scheme) or proxies.get("all"))

    def make_through() -> Through:
        from narfs.lake.through import Through  # noqa: PLC0415 - 65 ms for httpx: who only reads does not need it

        return Through.open(settings, context, {"User-Agent": _USER_AGENT}, keep_alive_s=KEEP_ALIVE_S)

    client = LakeClient(DirectClient(Dialler(settings, context).dial, max_kept=kept), make_through, proxied)
    if proxied:
        _ = client.through  # now, not at the first request: what makes no sense is to be heard of
    return client


def credentials(url: StoreUrl, settings: LakeSettings) -> dict[str, str]:
    """Give the headers that the lake at ``url`` is to see; UsageError if the netrc file cannot be read."""
    found = url.userinfo or _netrc_login(urlsplit(str(url)).hostname or "", settings.netrc_file)
    if found is None:
        return {}
    return {"Authorization": f"Basic {b64encode(':'.join(found).encode()).decode()}"}


def _netrc_login(host: str, file: Path | None) -> tuple[str, str] | None:
    if file is None:
        return None
    try:
        found = netrc.netrc(str(file)).authenticators(host)
    except FileNotFoundError:
        return None
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot read the netrc file: {error}") from error
    return (found[0], found[2]) if found and found[2] else None


def certificate_bundle(settings: LakeSettings, environ: Mapping[str, str]) -> str | None:
    """Choose the file of certificate authorities; None if not even the system has one."""
    candidates = (environ.get("NIX_SSL_CERT_FILE"), settings.ssl_cert_file, environ.get("SSL_CERT_FILE"))
    chosen = next((str(file) for file in candidates if file), None)
    return chosen or next((file for file in _SYSTEM_BUNDLES if Path(file).exists()), None)


def _tls_context(settings: LakeSettings, environ: Mapping[str, str]) -> ssl.SSLContext:
    bundle = certificate_bundle(settings, environ)
    if bundle is None:
        from narfs.lake.through import bundled_authorities  # noqa: PLC0415 - as above

        return bundled_authorities()
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise UsageError(f"{bundle}: cannot read certificates from it: {error}") from error
