"""What object_store's texts mean, as far as no server of the tests can be made to cause them."""

from __future__ import annotations

import pytest

from narfs.errors import NarfsError, NotFound, TooSlow, Unavailable
from narfs.lake.s3_answer import Asker, S3Failure

ABSENT = "404 Not Found: <Error><Code>NoSuchKey</Code></Error>\n\nDebug source:\nNotFound {}"


def meaning(text: str, endpoint: str = "https://s3.test", *, admitted: bool = False) -> NarfsError:
    return S3Failure.read(text).meaning("s3://lake/x", Asker("the instance's role", False, endpoint), admitted=admitted)


def answered(url: str, answer: str) -> str:
    return f"Generic S3 error: Error performing GET {url} in 1ms - Server returned non-2xx status code: {answer}"


@pytest.mark.parametrize("endpoint", ["https://s3.test", "https://S3.test:443", "https://s3.test/path"])
def test_an_absence_is_one_however_the_endpoint_is_spelled(endpoint: str) -> None:
    for url in ("https://s3.test/lake/x", "https://s3.test:443/lake/x"):
        assert isinstance(meaning(answered(url, ABSENT), endpoint), NotFound)


def test_an_answer_about_credentials_is_never_an_absence() -> None:
    for url in ("http://169.254.169.254/latest/meta-data/", "https://s3.test:8443/x", "http://s3.test/x"):
        failure = meaning(answered(url, ABSENT), admitted=True)
        assert isinstance(failure, Unavailable)
        assert "cannot get credentials from the instance's role" in str(failure)


def test_what_is_not_recognized_is_unavailable_with_its_first_line() -> None:
    assert str(meaning("Generic S3 error: a new sentence\nand more")) == "s3://lake/x: a new sentence"
    assert type(meaning("")) is Unavailable
    assert type(meaning("kind: Timeout")) is TooSlow


def test_an_address_that_is_none_was_somebody_else_s() -> None:
    for url in ("http://[::1/lake/x", "http://s3.test:99999/lake/x", "http://s3.test:x/lake/x"):
        assert isinstance(meaning(answered(url, ABSENT)), Unavailable)
