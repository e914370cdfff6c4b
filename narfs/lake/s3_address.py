"""S3Address: which bucket, below which prefix, at which server and how it is named there. Pure.

::

    s3://BUCKET[/PREFIX]?parameters

    endpoint           host[:port] or http(s)://host[:port][/path]; none means AWS itself
    region             else AWS_REGION, else AWS_DEFAULT_REGION, else the profile's, else us-east-1
    scheme             https or http; an endpoint's own scheme wins
    profile            whose credentials of ~/.aws/credentials and ~/.aws/config to show
    addressing-style   auto, path or virtual (the bucket in the path, or in front of the host name)
    public             1: ask without credentials

Nix's own names with Nix's own meaning: ``auto`` is ``virtual`` at AWS unless the bucket has a dot in its name, which no
certificate covers, and ``path`` at every other endpoint. Nix up to 2.32 has no ``addressing-style`` and no ``public``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from narfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_REGION = "us-east-1"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
"""What AWS allowed before 2018 as well; the server knows what it allows."""
_REGION = re.compile(r"[A-Za-z0-9-]+")
_STYLES = ("auto", "path", "virtual")


@dataclass(frozen=True, slots=True)
class S3Address:
    """Where a bucket is."""

    bucket: str
    prefix: str
    """Literal, as in a key: not percent-encoded; empty or without slashes at its ends."""
    server: str | None
    """Scheme, host, port and perhaps a path; None for AWS."""
    scheme: str
    virtual: bool
    region: str | None
    profile: str | None
    public: bool

    @classmethod
    def parse(cls, bucket: str, path: str, parameters: Mapping[str, str], *, what: str) -> S3Address:
        """Read what a store URL says; ``what`` names it in the UsageError that says what makes no sense."""
        if not _BUCKET.fullmatch(bucket):
            raise UsageError(f"{what}: {bucket!r} is no name of a bucket: an S3 store is s3://bucket")
        prefix = unquote(path).strip("/")
        if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
            raise UsageError(f"{what}: {prefix!r} is no plain prefix of keys")
        scheme = parameters.get("scheme") or "https"
        server = _server(parameters.get("endpoint") or "", scheme, what)
        style = parameters.get("addressing-style") or "auto"
        region = parameters.get("region") or None
        if scheme not in ("http", "https"):
            raise UsageError(f"{what}: scheme is https or http, found {scheme!r}")
        if style not in _STYLES:
            raise UsageError(f"{what}: addressing-style is {', '.join(_STYLES)}, found {style!r}")
        if style == "virtual" and "." in bucket:
            raise UsageError(f"{what}: a bucket with a dot in its name needs addressing-style=path")
        if region is not None and not _REGION.fullmatch(region):
            raise UsageError(f"{what}: {region!r} is no name of a region")
        return cls(
            bucket=bucket,
            prefix=prefix,
            server=server,
            scheme=scheme if server is None else urlsplit(server).scheme,
            virtual=style == "virtual" or (style == "auto" and server is None and "." not in bucket),
            region=region,
            profile=parameters.get("profile") or None,
            public=parameters.get("public", "") in ("1", "true"),
        )

    def endpoint(self, region: str) -> str:
        """Give the URL that keys are asked of: with the bucket if it is virtual-hosted, else without it."""
        server = self.server
        if server is None:
            domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
            server = f"{self.scheme}://s3.{region}.{domain}"
        return server.replace("://", f"://{self.bucket}.", 1) if self.virtual else server

    def key(self, name: str) -> str:
        """Give the key of the object that ``name`` means inside the lake; as in a URL, ``%2B`` is a plus."""
        return f"{self.prefix}/{unquote(name)}" if self.prefix else unquote(name)


def _server(endpoint: str, scheme: str, what: str) -> str | None:
    if not endpoint:
        return None
    url = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
    try:
        split = urlsplit(url)
        odd = split.scheme not in ("http", "https") or not split.hostname or split.port == 0
    except ValueError:
        odd = True
    if odd or split.query or split.fragment or split.username is not None:
        raise UsageError(f"{what}: endpoint is host[:port] or http(s)://host[:port], found {endpoint!r}")
    return url.rstrip("/")
