from __future__ import annotations

import pytest

from narfs.errors import UsageError
from narfs.lake.s3_address import S3Address


def address(bucket: str = "lake", path: str = "", **parameters: str) -> S3Address:
    given = {key.replace("_", "-"): value for key, value in parameters.items()}
    return S3Address.parse(bucket, path, given, what="s3://lake")


@pytest.mark.parametrize(
    ("bucket", "parameters", "endpoint"),
    [
        ("lake", {}, "https://lake.s3.eu-west-1.amazonaws.com"),
        ("la.ke", {}, "https://s3.eu-west-1.amazonaws.com"),
        ("lake", {"addressing_style": "path"}, "https://s3.eu-west-1.amazonaws.com"),
        ("lake", {"scheme": "http"}, "http://lake.s3.eu-west-1.amazonaws.com"),
        ("lake", {"endpoint": "minio.test:9000"}, "https://minio.test:9000"),
        ("lake", {"endpoint": "minio.test", "scheme": "http"}, "http://minio.test"),
        ("lake", {"endpoint": "http://minio.test/s3/", "scheme": "https"}, "http://minio.test/s3"),
        ("lake", {"endpoint": "minio.test", "addressing_style": "virtual"}, "https://lake.minio.test"),
        ("lake", {"endpoint": "", "region": ""}, "https://lake.s3.eu-west-1.amazonaws.com"),
    ],
)
def test_the_bucket_stands_where_nix_would_put_it(bucket: str, parameters: dict[str, str], endpoint: str) -> None:
    assert address(bucket, **parameters).endpoint("eu-west-1") == endpoint


def test_china_has_a_domain_of_its_own() -> None:
    assert address().endpoint("cn-north-1") == "https://lake.s3.cn-north-1.amazonaws.com.cn"


def test_a_prefix_stands_before_every_key_and_keys_are_literal() -> None:
    assert address().key("nar/x%2By.nar") == "nar/x+y.nar"
    assert address(path="/deep/la%20ke/").key("x.narinfo") == "deep/la ke/x.narinfo"


@pytest.mark.parametrize(
    ("bucket", "path", "parameters", "said"),
    [
        ("", "", {}, "no name of a bucket"),
        ("la ke", "", {}, "no name of a bucket"),
        ("lake:80", "", {}, "no name of a bucket"),
        ("lake", "/a/../b", {}, "no plain prefix"),
        ("lake", "/a//b", {}, "no plain prefix"),
        ("lake", "", {"scheme": "ftp"}, "https or http"),
        ("lake", "", {"addressing_style": "odd"}, "auto, path, virtual"),
        ("la.ke", "", {"addressing_style": "virtual"}, "needs addressing-style=path"),
        ("lake", "", {"region": "eu west"}, "no name of a region"),
        ("lake", "", {"endpoint": "ftp://x"}, "endpoint is"),
        ("lake", "", {"endpoint": "me@x"}, "endpoint is"),
        ("lake", "", {"endpoint": "x:port"}, "endpoint is"),
        ("lake", "", {"endpoint": "http://[::1"}, "endpoint is"),
    ],
)
def test_what_makes_no_sense_is_said(bucket: str, path: str, parameters: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        address(bucket, path, **parameters)


def test_profile_and_public_are_nix_s_own() -> None:
    assert (address(profile="work").profile, address().profile) == ("work", None)
    assert (address(public="true").public, address(public="0").public) == (True, False)
