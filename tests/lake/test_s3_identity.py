"""Whose requests: the chain, its files, and an instance's role as moto plays it."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trustme

from narfs.errors import Unavailable, UsageError
from narfs.lake.s3_address import S3Address
from narfs.lake.s3_identity import PROFILE_LIFE_S, S3Identity, find_identity
from narfs.lake.settings import LakeSettings
from tests.lake.s3_lake import forget_the_machine, put, s3_transport
from tests.support.faults import Fault
from tests.support.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trio

KEYS = {"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S"}
WEB_IDENTITY = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"}
NO_INSTANCE = {"AWS_EC2_METADATA_DISABLED": "true"}


def identity(home: Path, environ: dict[str, str], **parameters: str) -> S3Identity:
    return find_identity(S3Address.parse("lake", "", parameters, what="s3://lake"), {**NO_INSTANCE, **environ}, home)


def profiles(home: Path, credentials: str, config: str = "") -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(credentials)
    (home / ".aws" / "config").write_text(config)


def test_the_first_of_the_chain_counts(tmp_path: Path) -> None:
    assert identity(tmp_path, {}).is_nobody
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/x"}
    assert identity(tmp_path, container).origin == "the container"
    profiles(tmp_path, "[default]\naws_access_key_id=A\naws_secret_access_key=B\n")
    assert identity(tmp_path, container).origin == "profile 'default'"
    assert identity(tmp_path, WEB_IDENTITY).origin == "the web identity"
    assert identity(tmp_path, {**WEB_IDENTITY, **KEYS}).origin == "the environment"
    assert identity(tmp_path, KEYS, profile="default").origin == "profile 'default'"
    assert identity(tmp_path, KEYS, public="1").is_nobody


def test_a_profile_is_read_again_when_its_time_is_over(tmp_path: Path) -> None:
    profiles(tmp_path, "[work]\naws_access_key_id=A\naws_secret_access_key=B\naws_session_token=T1\n")
    provider = identity(tmp_path, {"AWS_PROFILE": "work"}).provider
    assert provider is not None
    first = provider()
    assert (first["access_key_id"], first["secret_access_key"], first["token"]) == ("A", "B", "T1")
    assert first["expires_at"] is not None
    assert timedelta(0) < first["expires_at"] - datetime.now(UTC) <= timedelta(seconds=PROFILE_LIFE_S)
    file = tmp_path / ".aws" / "credentials"
    file.write_text(file.read_text().replace("T1", "T2"))
    assert provider()["token"] == "T" + "2"


def test_the_region_comes_from_the_url_the_environment_or_the_profile(tmp_path: Path) -> None:
    profiles(tmp_path, "[work]\naws_access_key_id=A\naws_secret_access_key=B\n", "[profile work]\nregion=eu-west-3\n")
    assert identity(tmp_path, {"AWS_PROFILE": "work"}).region == "eu-west-3"
    assert identity(tmp_path, {"AWS_PROFILE": "work", "AWS_DEFAULT_REGION": "eu-west-2"}).region == "eu-west-2"
    assert identity(tmp_path, {"AWS_REGION": "eu-west-1"}, region="eu-north-1").region == "eu-north-1"
    assert identity(tmp_path, {}).region == "us-east-1"


@pytest.mark.parametrize(
    ("credentials", "config", "said"),
    [
        ("", "", "profile 'work' is neither in"),
        ("", "[profile work]\nsso_session=corp\n", "export-credentials --profile work"),
        ("junk\n", "", "cannot read AWS profiles"),
    ],
)
def test_a_profile_that_cannot_be_used_says_why(tmp_path: Path, credentials: str, config: str, said: str) -> None:
    profiles(tmp_path, credentials, config)
    with pytest.raises(UsageError, match=said):
        identity(tmp_path, {}, profile="work")


def test_no_instance_answers_elsewhere(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    environ = {"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}"}
    assert identity(tmp_path, environ).is_nobody


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """S3 and an instance's metadata service in one, as a process; gives its URL."""
    pytest.importorskip("moto")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    environ = {**os.environ, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _make_bucket(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _make_bucket(port: int) -> None:
    gives_up = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("PUT", "/lake")
            assert connection.getresponse().status == 200
        except ConnectionRefusedError:
            assert time.monotonic() < gives_up, "moto does not start"
            time.sleep(0.05)  # a process that starts tells nobody
        else:
            return
        finally:
            connection.close()


async def test_an_instance_shows_its_role(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_the_machine(monkeypatch)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", moto)
    lake = s3_transport(f"s3://lake/deep?endpoint={moto}")
    await put(lake, "x.narinfo", b"hello")
    assert await lake.get("x.narinfo", max_bytes=100) == b"hello"
    assert await lake.exists("x.narinfo")
    assert not await lake.exists("y.narinfo")
    assert {bucket.identity.origin for bucket in lake._buckets.values()} == {"the instance's role"}


STS = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>WEB</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>TOKEN</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_a_web_identity_is_changed_into_keys(
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: trustme.CA,
    tls: ssl.SSLContext,
) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "x").write_bytes(b"hello")
    (tmp_path / "token").write_text("whoever bears this")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    bucket: Server = await nursery.start(serve, tmp_path)
    service: Server = await nursery.start(lambda **given: serve(tmp_path, ssl_context=tls, **given))
    forget_the_machine(monkeypatch)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", service.url.replace("127.0.0.1", "localhost"))
    url = f"s3://lake?endpoint={bucket.url}"
    trusting = LakeSettings(attempts=1, ssl_cert_file=tmp_path / "ca.pem")

    service.on("/", Fault(status=200, body=STS.encode()))
    assert await s3_transport(url, trusting).get("x", max_bytes=100) == b"hello"
    (asked,) = bucket.log
    assert asked.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=WEB/")
    assert asked.headers["x-amz-security-token"] == "TOKEN"

    service.behave()
    service.on("/", Fault(status=403, body=b"<Error><Code>InvalidIdentityToken</Code><Message>old</Message></Error>"))
    with pytest.raises(Unavailable, match="cannot get credentials from the web identity: InvalidIdentityToken: old"):
        await s3_transport(url, trusting).get("x", max_bytes=100)


async def test_a_certificate_nobody_vouches_for_is_refused(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, tls: ssl.SSLContext
) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "x").write_bytes(b"hello")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server: Server = await nursery.start(lambda **given: serve(tmp_path, ssl_context=tls, **given))
    forget_the_machine(monkeypatch)
    url = f"s3://lake?endpoint={server.url.replace('127.0.0.1', 'localhost')}"
    with pytest.raises(Unavailable, match=r"certificate is not trusted \(UnknownIssuer\): see ssl-cert-file"):
        await s3_transport(url, LakeSettings(attempts=1)).get("x", max_bytes=100)
    trusting = LakeSettings(attempts=1, ssl_cert_file=tmp_path / "ca.pem")
    assert await s3_transport(url, trusting).get("x", max_bytes=100) == b"hello"
    with pytest.raises(UsageError, match=r"none\.pem: cannot read certificates"):
        await s3_transport(url, LakeSettings(ssl_cert_file=tmp_path / "none.pem")).get("x", max_bytes=100)
