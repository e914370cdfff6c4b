"""Whose requests are sent to S3: the usual chain, of which the first that is there counts.

1. ``?public=1``: nobody's;
2. ``?profile=``: that profile, and nothing else;
3. ``AWS_ACCESS_KEY_ID`` and its companions;
4. a web identity: ``AWS_WEB_IDENTITY_TOKEN_FILE`` and ``AWS_ROLE_ARN`` (Kubernetes);
5. the profile ``AWS_PROFILE``, else ``default`` if that has keys;
6. a container's credentials: ``AWS_CONTAINER_CREDENTIALS_FULL_URI`` or ``…_RELATIVE_URI`` (ECS, EKS);
7. the instance's role, at AWS itself or where ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` is set, if the metadata service
   can be reached at all;
8. nobody's: the bucket may be public.

Steps 3, 4, 6 and 7 are object_store's own, which refreshes what it fetches. Profiles it does not know; they are read
here, again after PROFILE_LIFE_S, so that a tool which writes new session tokens into the file is noticed. Profiles that
only point elsewhere (single sign-on, ``source_profile``, ``credential_process``) are refused with a hint.
"""

from __future__ import annotations

import configparser
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from narfs.errors import UsageError
from narfs.lake.s3_address import DEFAULT_REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from obstore.store import S3Config, S3Credential

    from narfs.lake.s3_address import S3Address

PROFILE_LIFE_S = 300
_METADATA_SERVICE = "http://169.254.169.254"
_METADATA_PATIENCE_S = 1.0
"""On an instance it answers within a millisecond; elsewhere the address usually leads nowhere."""


@dataclass(frozen=True, slots=True)
class S3Identity:
    """Credentials, or where object_store gets them from, and the region to ask in."""

    origin: str
    """For messages: "the environment", "profile 'x'", …"""
    region: str
    config: S3Config
    provider: Callable[[], S3Credential] | None = None

    @property
    def is_nobody(self) -> bool:
        """Whether requests are sent without a signature."""
        return bool(self.config.get("skip_signature"))


def find_identity(address: S3Address, environ: Mapping[str, str], home: Path) -> S3Identity:
    """Go through the chain; UsageError if a profile that was asked for cannot be used. Reads files, may block 1 s."""
    profiles = _Profiles(environ, home)
    name = address.profile or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    region = address.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    region = region or profiles.read(name).get("region") or DEFAULT_REGION
    return next(_chain(address, environ, profiles, name, region))


def _chain(
    address: S3Address, environ: Mapping[str, str], profiles: _Profiles, name: str, region: str
) -> Iterator[S3Identity]:
    signed: S3Config = {"skip_signature": False}
    nobody = S3Identity("nobody", region, {"skip_signature": True})
    if address.public:
        yield nobody
    if address.profile is not None:
        yield S3Identity(f"profile {name!r}", region, signed, profiles.provider(name))
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        yield S3Identity("the environment", region, signed)
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
        yield S3Identity("the web identity", region, signed)
    if name != "default" or profiles.read(name).get("aws_access_key_id"):
        yield S3Identity(f"profile {name!r}", region, signed, profiles.provider(name))
    if environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        yield S3Identity("the container", region, signed)
    service = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or (_METADATA_SERVICE if address.server is None else "")
    if service and environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and _can_be_reached(service):
        yield S3Identity("the instance's role", region, {**signed, "metadata_endpoint": service.rstrip("/")})
    yield nobody


def _can_be_reached(service: str) -> bool:
    split = urlsplit(service)
    try:
        socket.create_connection((split.hostname, split.port or 80), _METADATA_PATIENCE_S).close()
    except OSError:
        return False
    return True


class _Profiles:
    """The two files of the AWS tools. A profile's settings are those of both; the credentials file wins."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self._credentials = Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials")
        self._config = Path(environ.get("AWS_CONFIG_FILE") or home / ".aws" / "config")

    def read(self, name: str) -> dict[str, str]:
        """Give the settings of a profile; empty if no file has it."""
        section = name if name == "default" else f"profile {name}"
        return {**_section(self._config, section), **_section(self._credentials, name)}

    def provider(self, name: str) -> Callable[[], S3Credential]:
        """Give what reads the profile's keys whenever object_store asks; UsageError if it has none now."""

        def credential() -> S3Credential:
            settings = self.read(name)
            key, secret = settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")
            if key and secret:
                return {
                    "access_key_id": key,
                    "secret_access_key": secret,
                    "token": settings.get("aws_session_token") or None,
                    "expires_at": datetime.now(UTC) + timedelta(seconds=PROFILE_LIFE_S),
                }
            if not settings:
                raise UsageError(f"profile {name!r} is neither in {self._credentials} nor in {self._config}")
            raise UsageError(
                f"profile {name!r} has no keys of its own: give narfs those that "
                f"'aws configure export-credentials --profile {name} --format env' prints"
            )

        credential()
        return credential


def _section(file: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{file}: cannot read AWS profiles from it: {reason}") from error
    return dict(parser.items(name)) if parser.has_section(name) else {}
