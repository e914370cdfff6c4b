from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import Untrusted, UsageError
from narfs.lake.store_url import StoreUrl


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://cache.nixos.org", "https://cache.nixos.org"),
        ("https://cache.nixos.org/?priority=10", "https://cache.nixos.org"),
        ("HTTP://Lake.TEST:80/a%20b/", "http://lake.test/a%20b"),
        ("http://lake.test:8080", "http://lake.test:8080"),
        ("http://[::1]:5000/x", "http://[::1]:5000/x"),
        ("http://me:secret@lake.test/x", "http://lake.test/x"),
        ("file:///srv/la%20ke/", "file:///srv/la%20ke"),
        ("file://localhost/srv", "file:///srv"),
        ("/srv/lake?trusted=1", "file:///srv/lake"),
        ("s3://Bucket/pre%20fix/?region=eu-west-1", "s3://Bucket/pre%20fix"),
        ("/srv/100%", "file:///srv/100%25"),
    ],
)
def test_a_store_url_has_one_canonical_text(text: str, canonical: str) -> None:
    assert str(StoreUrl.parse(text)) == canonical
    assert str(StoreUrl.parse(canonical)) == canonical
    assert "secret" not in repr(StoreUrl.parse(text))


def test_parameters_are_read_and_unknown_ones_kept() -> None:
    url = StoreUrl.parse("https://lake.test/x?priority=10&trusted=1&optional=true&compression=zstd&secret-key=/k")
    assert (url.priority, url.trusted, url.optional) == (10, True, True)
    assert url.parameters == (("compression", "zstd"), ("secret-key", "/k"))
    plain = StoreUrl.parse("https://lake.test/x?trusted=0&optional=")
    assert (plain.priority, plain.trusted, plain.optional, plain.parameters) == (None, False, False, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://", "no name of a bucket"),
        ("s3://me:secret@bucket", "no name of a bucket"),
        ("s3://bucket?addressing-style=sideways", "addressing-style"),
        ("ssh-ng://host", "'ssh-ng' is no kind"),
        ("daemon", "'daemon' is no kind"),
        ("lake", "'lake' is no kind"),
        ("", "is no kind"),
        ("http:lake", "is no kind"),
        ("http:///x", "no host name"),
        ("http://lake.test:port/", "is no store URL"),
        ("http://lake.test:99999/", "is no store URL"),
        ("http://[::1/", "is no store URL"),
        ("http://la ke/", "percent-encode"),
        ("http://lake.test/#x", "leave out any '#'"),
        ("file://srv/lake", "three slashes"),
        ("file:///a%00b", "NUL"),
        ("/x?priority=high", "priority is a number"),
        ("/x?priority=-1", "priority is a number"),
        ("/x?trusted=maybe", "trusted is 1 or 0"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error_that_says_why(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        StoreUrl.parse(text)


@given(st.text(max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    for prefix in ("", "http://", "file:///", "/"):
        try:
            url = StoreUrl.parse(prefix + text)
        except UsageError:
            continue
        with suppress(Untrusted):
            assert ".." not in url.name_of(text).split("/")


@pytest.mark.parametrize("text", ["https://lake.test/deep", "/srv/lake", "s3://lake.test/deep?endpoint=lake.test"])
def test_names_inside_the_lake_are_taken_as_they_are(text: str) -> None:
    url = StoreUrl.parse(text)
    for name in ("nar/x.nar.xz", "x.nar", "nar/a:b+c%2Bd.nar", "nar/x...nar", "nar/ünï.nar"):
        assert url.name_of(name) == name
        assert url.name_of(f"{url}/{name}") == name


def test_a_query_stays_with_its_name() -> None:
    url = StoreUrl.parse("https://lake.test")
    assert url.name_of("nar/x.nar?hash=a/../b&u=http://y") == "nar/x.nar?hash=a/../b&u=http://y"


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "nar/../../x",
        "nar/..",
        "nar/%2e%2e/%2E./x",
        "nar/..%2fx",
        "./x",
        "nar//x",
        "/nar/x",
        "//evil.test/x",
        "nar/",
        "",
        "nar\\x",
        "nar%5cx",
        "nar/x%00",
        "nar/x\x00",
        "nar/x y",
        "nar/x\ty",
        "nar/x#y",
        "http://evil.test/nar/x",
        "https://lake.test.evil.test/deep/x",
        "https://lake.test/other/x",
        "https://lake.test/deeper/x",
        "http://lake.test/deep/x",
        "https://lake.test:444/deep/x",
        "https://user@lake.test/deep/x",
        "file:///etc/passwd",
        "https://lake.test/deep/../x",
        "s3://lake.test/deep/../x",
        "s3://lake.test/other/x",
    ],
)
@pytest.mark.parametrize("text", ["https://lake.test/deep", "/srv/lake", "s3://lake.test/deep?endpoint=lake.test"])
def test_names_that_lead_out_of_the_lake_are_untrusted(text: str, name: str) -> None:
    with pytest.raises(Untrusted):
        StoreUrl.parse(text).name_of(name)


def test_a_question_mark_in_a_file_or_s3_lake_is_a_character_and_hides_nothing() -> None:
    for url in (StoreUrl.parse("/srv/lake"), StoreUrl.parse("s3://bucket/deep")):
        assert url.name_of("nar/x?y") == "nar/x?y"
        with pytest.raises(Untrusted):
            url.name_of("nar?/../../etc/passwd")


def test_an_origin_is_scheme_host_and_port() -> None:
    url = StoreUrl.parse("https://lake.test/deep")
    assert url.has_same_origin("https://LAKE.test:443/anything?at=all")
    for other in (
        "http://lake.test/",
        "https://lake.test:8443/",
        "https://x.lake.test/",
        "https://lake.test:nan/",
        "x",
    ):
        assert not url.has_same_origin(other)
