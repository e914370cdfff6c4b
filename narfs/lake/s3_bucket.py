"""S3Bucket: one bucket as object_store sees it, and the door where its exceptions become narfs's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import S3Store

from narfs import __version__
from narfs.errors import Corrupt, UsageError
from narfs.lake.client import certificate_bundle
from narfs.lake.retry import FIRST_PAUSE_S, MAX_PAUSE_S
from narfs.lake.s3_answer import Asker, S3Failure
from narfs.lake.s3_identity import find_identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import ClientConfig, RetryConfig

    from narfs.errors import NarfsError
    from narfs.lake.s3_address import S3Address
    from narfs.lake.s3_identity import S3Identity
    from narfs.lake.settings import LakeSettings

FOREIGN = (BaseError, OSError, ValueError)
"""Everything that object_store's failures become: FileNotFoundError and ValueError are Python's own."""

_IDLE_CONNECTION_S = 55
_FOR_EVER = timedelta(days=365)
"""object_store bounds a whole request, with its body; a stream may take as long as it moves."""


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """A bucket with somebody's credentials."""

    store: S3Store
    identity: S3Identity
    endpoint: str

    @classmethod
    def open(cls, address: S3Address, settings: LakeSettings, environ: Mapping[str, str]) -> S3Bucket:
        """Find credentials and open; UsageError if they make no sense. Reads files, asks the bucket nothing."""
        identity = find_identity(address, environ, Path.home())
        endpoint = address.endpoint(identity.region)
        try:
            store = S3Store(
                address.bucket,
                # Also what is the default: a variable of the environment would win over what is not given here.
                config={
                    **identity.config,
                    "endpoint": endpoint,
                    "aws_endpoint_url_s3": endpoint,
                    "region": identity.region,
                    "virtual_hosted_style_request": address.virtual,
                },
                credential_provider=identity.provider,
                client_options=_client_options(settings, environ, tls=endpoint.startswith("https://")),
                retry_config=_retry_config(settings),
            )
        except FOREIGN as error:
            raise UsageError(f"s3://{address.bucket}: {S3Failure.read(str(error)).reason}") from error
        return cls(store, identity, endpoint)

    def looks_for_credentials(self, error: Exception) -> bool:
        """Whether one of FOREIGN says that there are none: at boot the metadata service may come later than we do."""
        return self.identity.is_nobody and S3Failure.read(str(error)).status in (401, 403)

    def translated(self, error: Exception, what: str, *, admitted: bool) -> NarfsError:
        """Say what one of FOREIGN means for ``what``."""
        failure = S3Failure.read(str(error))
        if failure.status == 416:
            size = failure.object_size
            return Corrupt(f"{what}: more was asked for, but it has {'fewer' if size is None else size} bytes")
        asker = Asker(self.identity.origin, self.identity.is_nobody, self.endpoint)
        return failure.meaning(what, asker, admitted=admitted)


def _client_options(settings: LakeSettings, environ: Mapping[str, str], *, tls: bool) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": not tls,
        "connect_timeout": timedelta(seconds=settings.connect_deadline_s),
        "read_timeout": timedelta(seconds=settings.stall_deadline_s),
        "timeout": _FOR_EVER,
        "pool_idle_timeout": timedelta(seconds=_IDLE_CONNECTION_S),
        "user_agent": f"narfs/{__version__}",
    }
    if bundle := certificate_bundle(settings, environ):
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            raise UsageError(f"{bundle}: cannot read certificates from it: {error.strerror}") from error
    return options


def _retry_config(settings: LakeSettings) -> RetryConfig:
    return {
        "max_retries": settings.attempts - 1,
        "retry_timeout": timedelta(seconds=settings.small_object_deadline_s),
        "backoff": {
            "init_backoff": timedelta(seconds=FIRST_PAUSE_S),
            "max_backoff": timedelta(seconds=MAX_PAUSE_S),
            "base": 2,
        },
    }
