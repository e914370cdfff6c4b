"""What the tests of S3 lakes share: credentials in the environment, and a transport as the engine gets it."""

from __future__ import annotations

import os
from contextlib import aclosing
from typing import TYPE_CHECKING

from narfs.lake.s3 import S3Transport
from narfs.lake.settings import LakeSettings
from narfs.lake.store_url import StoreUrl
from tests.lake.fake_server import chunks
from tests.support.s3 import ACCESS_KEY, SECRET_KEY

if TYPE_CHECKING:
    import pytest

    from narfs.lake.transport import Transport

QUICK = LakeSettings(attempts=3, stall_deadline_s=1)


def forget_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing of this machine's own credentials and certificates, and no instance to ask for any."""
    monkeypatch.delenv("NIX_SSL_CERT_FILE", raising=False)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")


def show_credentials(monkeypatch: pytest.MonkeyPatch, access_key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


def s3_transport(url: str, settings: LakeSettings = QUICK) -> S3Transport:
    return S3Transport(StoreUrl.parse(url), settings, os.environ)


async def put(lake: Transport, name: str, *data: bytes, size: int | None = None) -> None:
    async with aclosing(chunks(*data)) as given:
        await lake.put(name, given, sum(map(len, data)) if size is None else size)
