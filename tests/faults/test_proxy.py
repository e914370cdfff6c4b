"""The proxy does what is ordered of it, and nothing else: what the stories of this room stand on."""

from __future__ import annotations

import http.client
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.faults.kinds import Hits, Kind, Order
from tests.faults.lake import FaultyLake, faulty_lake

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOB, OTHER, OLD = bytes(range(256)) * 400, b"y" * 102_400, b"o" * 102_400


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyLake]:
    directory = tmp_path_factory.mktemp("lake")
    for name, data in {"nar/x.nar": BLOB, "nar/y.nar": OTHER, "old/nar/x.nar": OLD}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    with faulty_lake(directory, tmp_path_factory.mktemp("work")) as lake:
        yield lake


@pytest.fixture(autouse=True)
def _well_again(lake: FaultyLake) -> Iterator[None]:
    yield
    lake.end()


def ask(lake: FaultyLake, timeout_s: float = 10) -> tuple[int, bytes, str | None]:
    """Ask for bytes 500 to 4000; give status, body and what it is said to be."""
    connection = http.client.HTTPConnection(urlsplit(lake.url).netloc, timeout=timeout_s)
    try:
        connection.request("GET", "/nar/x.nar", headers={"Range": "bytes=500-4000"})
        answer = connection.getresponse()
        said = (
            answer.headers.get("content-range") or answer.headers.get("location") or answer.headers.get("retry-after")
        )
        return answer.status, answer.read(), said
    finally:
        connection.close()


def test_what_is_not_to_be_wrong_passes_as_it_is(lake: FaultyLake) -> None:
    assert ask(lake) == (206, BLOB[500:4001], "bytes 500-4000/102400")
    lake.begin(Order(Kind.STATUS, "/other/*"))
    assert ask(lake) == (206, BLOB[500:4001], "bytes 500-4000/102400")


def test_a_fault_happens_as_often_as_ordered_and_is_counted(lake: FaultyLake) -> None:
    before = lake.hits()[Kind.STATUS]
    lake.begin(Order(Kind.STATUS, "/nar/*", times=2))
    assert [ask(lake)[0] // 100 for _ in range(3)] == [5, 5, 2]
    assert lake.hits()[Kind.STATUS] == Hits(before.requests + 2, before.reads + 2)


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET])
def test_a_body_ends_early(lake: FaultyLake, kind: Kind) -> None:
    lake.begin(Order(kind, at=1000))
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        ask(lake)


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.DRIP])
def test_a_body_hangs_until_the_fault_ends(lake: FaultyLake, kind: Kind) -> None:
    lake.begin(Order(kind, at=0 if kind is Kind.STALL else 3490))
    if kind is Kind.STALL:
        with pytest.raises(TimeoutError):
            ask(lake, timeout_s=0.3)
    else:
        assert ask(lake)[1] == BLOB[500:4001]
    lake.end(kind)
    assert ask(lake)[0] == 206


def test_answers_are_made_up(lake: FaultyLake) -> None:
    lake.begin(Order(Kind.BUSY, times=1))
    assert ask(lake) == (429, b"", "1")
    lake.begin(Order(Kind.LOOP, times=1))
    assert (ask(lake)[2] or "").startswith("/nar/x.nar?")
    lake.begin(Order(Kind.OFF, times=1))
    assert (ask(lake)[2] or "").startswith("http://127.0.0.1:")
    lake.begin(Order(Kind.BOMB, times=1))
    assert ask(lake)[1].startswith(b"\x1f\x8b")


def test_ranges_are_ignored_and_lied_about(lake: FaultyLake) -> None:
    lake.begin(Order(Kind.IGNORED_RANGE, times=1))
    assert ask(lake) == (200, BLOB, None)
    lake.begin(Order(Kind.LYING_RANGE, times=1))
    assert ask(lake) == (206, BLOB[250:3751], "bytes 500-4000/102400")


def test_bodies_are_flipped_swapped_old_or_of_another_length(lake: FaultyLake) -> None:
    lake.begin(Order(Kind.FLIP, times=1, at=20))
    data = ask(lake)[1]
    assert [at for at in range(3501) if data[at] != BLOB[500 + at]] == [20]
    lake.begin(Order(Kind.SWAP, times=1))
    assert ask(lake)[1] == OTHER[500:4001]
    lake.begin(Order(Kind.OLD, times=1))
    assert ask(lake)[1] == OLD[500:4001]
    lake.begin(Order(Kind.LENGTH, times=1))
    with suppress(http.client.IncompleteRead):  # where it promises more than what comes
        assert ask(lake)[1] == BLOB[500:2250]


def test_nobody_listens_and_then_somebody_does(lake: FaultyLake) -> None:
    lake.begin(Order(Kind.REFUSE))
    with pytest.raises(ConnectionRefusedError):
        ask(lake)
    lake.end(Kind.REFUSE)
    assert ask(lake)[0] == 206
    assert lake.hits()[Kind.REFUSE].requests >= 1
