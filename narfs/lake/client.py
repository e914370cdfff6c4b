"""The httpx client that the lakes of one process share: its connection pool, certificates and proxies.

HTTP/1.1 only: HTTP/2 in httpx is 3 to 5 times slower and its window allows 6.5 MB/s at 10 ms RTT. Proxies come from the
environment (``http_proxy``, ``https_proxy``, ``all_proxy``, ``no_proxy``). Redirects are not followed here.

Certificate authorities: ``NIX_SSL_CERT_FILE``, else the setting, else ``SSL_CERT_FILE``, else the system's bundle, else
the one that httpx brings. Credentials: the URL's own, else netrc by host name, sent with the first request.
"""

from __future__ import annotations

import netrc
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from narfs import __version__
from narfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from narfs.lake.settings import LakeSettings
    from narfs.lake.store_url import StoreUrl

_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/nix/var/nix/profiles/default/etc/ssl/certs/ca-bundle.crt",
)
_KEEP_ALIVE_S = 55.0
"""Below the 60 s after which common servers close, so that a request seldom meets a connection that is just closing."""


def make_client(settings: LakeSettings, *, tls: bool, environ: Mapping[str, str]) -> httpx.AsyncClient:
    """Make the client; the caller closes it. Certificates (20 ms) are loaded only for ``tls``: some lake is https."""
    kept_alive = settings.short_requests + settings.long_bodies
    try:
        return httpx.AsyncClient(
            verify=_tls_context(settings, environ) if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            # The transports bound what is in flight, so nothing ever waits for the pool.
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=kept_alive, keepalive_expiry=_KEEP_ALIVE_S
            ),
            timeout=httpx.Timeout(settings.stall_deadline_s, connect=settings.connect_deadline_s),
            headers={"User-Agent": f"narfs/{__version__}"},
            follow_redirects=False,
            trust_env=True,
        )
    except (ValueError, httpx.InvalidURL) as error:
        raise UsageError(f"a proxy variable of the environment makes no sense: {error}") from error


def credentials(url: StoreUrl, settings: LakeSettings) -> httpx.Auth | None:
    """Choose what to show to the lake at ``url``; UsageError if the netrc file cannot be read."""
    if url.userinfo is not None:
        return httpx.BasicAuth(*url.userinfo)
    if settings.netrc_file is None:
        return None
    try:
        return httpx.NetRCAuth(str(settings.netrc_file))
    except FileNotFoundError:
        return None
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        raise UsageError(f"{settings.netrc_file}: cannot read the netrc file: {error}") from error


def certificate_bundle(settings: LakeSettings, environ: Mapping[str, str]) -> str | None:
    """Choose the file of certificate authorities; None if not even the system has one."""
    candidates = (environ.get("NIX_SSL_CERT_FILE"), settings.ssl_cert_file, environ.get("SSL_CERT_FILE"))
    chosen = next((str(file) for file in candidates if file), None)
    return chosen or next((file for file in _SYSTEM_BUNDLES if Path(file).exists()), None)


def _tls_context(settings: LakeSettings, environ: Mapping[str, str]) -> ssl.SSLContext:
    bundle = certificate_bundle(settings, environ)
    if bundle is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise UsageError(f"{bundle}: cannot read certificates from it: {error}") from error
