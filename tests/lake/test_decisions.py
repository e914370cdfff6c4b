"""The plain decisions: retry, absence, where a body belongs, content encodings, pieces."""

from __future__ import annotations

import gzip
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime

import brotli  # type: ignore[import-untyped]  # ships no annotations
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import Corrupt, Unavailable
from narfs.lake.answer import CREDENTIAL_ERRORS, ObjectVersion, means_absent, place_body
from narfs.lake.content_encoding import decode
from narfs.lake.pieces import PIECE_BYTES, Pieces
from narfs.lake.retry import MAX_PAUSE_S, Failure, pause_before_retry


def pause(failure: Failure, attempt: int = 1, jitter: float = 0.0) -> float | None:
    return pause_before_retry(failure, attempt=attempt, attempts=5, jitter=jitter, unix_time_s=1_000_000_000.0)


def test_pauses_double_and_a_random_half_is_left_out() -> None:
    assert [pause(Failure(), attempt) for attempt in range(1, 6)] == [0.25, 0.5, 1.0, 2.0, None]
    assert pause(Failure(), 4, jitter=0.5) == 1.5
    long = pause_before_retry(Failure(), attempt=30, attempts=99, jitter=0.0, unix_time_s=0.0)
    assert long == MAX_PAUSE_S


def test_silence_is_repeated_once() -> None:
    assert pause(Failure(stalled=True), 1) is not None
    assert pause(Failure(stalled=True), 2) is None


def test_what_cannot_change_is_not_repeated() -> None:
    assert pause(Failure(final=True)) is None
    for status in (200, 302, 400, 401, 403, 404, 501, 505, 511):
        assert pause(Failure(status=status)) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        (" 12 ", 12.0),
        ("60", 60.0),
        ("61", None),
        ("9" * 50, None),
        (format_datetime(datetime.fromtimestamp(1_000_000_020, UTC), usegmt=True), 20.0),
        (format_datetime(datetime.fromtimestamp(900_000_000, UTC), usegmt=True), 0.0),
        ("soon", 0.25),
        ("-5", 0.25),
        ("", 0.25),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(value: str, expected: float | None) -> None:
    assert pause(Failure(status=503, retry_after=value)) == expected


def test_404_is_absent_and_403_only_for_the_admitted_without_a_credential_error() -> None:
    assert means_absent(404, b"", admitted=False)
    assert means_absent(410, b"", admitted=False)
    assert means_absent(403, b"<Code>AccessDenied</Code>", admitted=True)
    assert not means_absent(403, b"<Code>AccessDenied</Code>", admitted=False)
    for error in CREDENTIAL_ERRORS:
        assert not means_absent(403, b"<Code>" + error + b"</Code>", admitted=True)
    assert not any(means_absent(status, b"", admitted=True) for status in (200, 401, 407, 429, 500, 503))


def test_a_body_is_placed_by_its_content_range() -> None:
    headers = {"content-range": "bytes 5-9/20", "etag": '"v"'}
    span = place_body(206, headers, asked=7, what="x")
    assert (span.start, span.end, span.version) == (5, 10, ObjectVersion('"v"', 20))
    open_end = place_body(206, {"content-range": "bytes 7-9/*"}, asked=7, what="x")
    assert (open_end.end, open_end.version.size) == (10, None)
    assert place_body(200, {"content-length": "20"}, asked=7, what="x").version.size == 20
    assert place_body(200, {}, asked=7, what="x").end is None
    assert place_body(416, {"content-range": "bytes */7"}, asked=7, what="x").end == 7


@pytest.mark.parametrize("status", [206, 416, 204])
@given(value=st.text(max_size=30) | st.from_regex(r"bytes [0-9]{1,3}-[0-9]{1,3}/([0-9]{1,3}|\*)", fullmatch=True))
def test_a_body_is_placed_before_what_was_asked_or_not_at_all(status: int, value: str) -> None:
    try:
        span = place_body(status, {"content-range": value}, asked=7, what="x")
    except (Unavailable, Corrupt):
        return
    assert span.start <= 7
    assert span.end is None or span.end > 7 or span.start == 7


def test_only_a_strong_etag_goes_into_if_range() -> None:
    assert ObjectVersion('"v"', None).if_range == '"v"'
    assert ObjectVersion('W/"v"', None).if_range is None
    assert ObjectVersion(None, 5).if_range is None


def test_versions_contradict_only_in_what_both_know() -> None:
    assert ObjectVersion('"a"', 5).contradicts(ObjectVersion('"b"', 5))
    assert ObjectVersion(None, 5).contradicts(ObjectVersion('"b"', 6))
    assert not ObjectVersion('"a"', None).contradicts(ObjectVersion(None, 5))
    assert ObjectVersion('"a"', None).joined(ObjectVersion(None, 5)) == ObjectVersion('"a"', 5)


ENCODERS = {
    "br": brotli.compress,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", ENCODERS)
def test_content_is_decoded_up_to_the_bound_and_no_further(encoding: str) -> None:
    data = b"nar" * 50_000
    encoded = ENCODERS[encoding](data)
    assert decode(encoding.upper(), encoded, max_bytes=len(data), what="x") == data
    with pytest.raises(Corrupt, match="longer than"):
        decode(encoding, encoded, max_bytes=len(data) - 1, what="x")


def test_encodings_are_undone_in_reverse() -> None:
    assert decode("gzip, br", brotli.compress(gzip.compress(b"x" * 99)), max_bytes=200, what="x") == b"x" * 99


@pytest.mark.parametrize("encoding", ["br", "gzip"])
def test_content_that_is_cut_short_is_corrupt(encoding: str) -> None:
    with pytest.raises(Corrupt):
        decode(encoding, ENCODERS[encoding](b"nar" * 5000)[:-2], max_bytes=10**6, what="x")


def test_an_encoding_nobody_knows_is_named() -> None:
    with pytest.raises(Corrupt, match="'rot13'"):
        decode("rot13", b"", max_bytes=10, what="x")


@given(data=st.binary(max_size=200), encoding=st.sampled_from(sorted(ENCODERS)))
def test_junk_is_never_anything_but_corrupt(data: bytes, encoding: str) -> None:
    with suppress(Corrupt):
        assert len(decode(encoding, data, max_bytes=1000, what="x")) <= 1000


@given(sizes=st.lists(st.integers(0, 3 * PIECE_BYTES), max_size=6))
def test_pieces_are_the_chunks_in_other_sizes(sizes: list[int]) -> None:
    pieces, given_, taken = Pieces(), [], []
    for number, size in enumerate(sizes):
        chunk = bytes([number]) * size
        given_.append(chunk)
        pieces.push(chunk)
        while (piece := pieces.pop()) is not None:
            taken.append(piece)
    while (piece := pieces.pop(last=True)) is not None:
        taken.append(piece)
    assert b"".join(taken) == b"".join(given_)
    assert all(0 < len(piece) <= PIECE_BYTES for piece in taken)


def test_pieces_grow_so_that_the_first_is_early_and_the_others_are_large() -> None:
    pieces, sizes = Pieces(), []
    for _ in range(64):
        pieces.push(bytes(65_536))
        while (piece := pieces.pop()) is not None:
            sizes.append(len(piece) // 65_536)
    assert sizes == [1, 2, 4, 8, 16, 16, 16]
