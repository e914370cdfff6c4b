"""Which machine seals what."""

from __future__ import annotations

import random

import pytest

from narfs.errors import UsageError
from narfs.formats import base32
from narfs.publish.shard import WHOLE, Shard

_DICE = random.Random(8)  # noqa: S311 - any hashes
HASHES = [base32.encode(_DICE.randbytes(20)) for _ in range(8000)]


@pytest.mark.parametrize("of", [1, 2, 3, 8, 100])
def test_every_path_is_in_exactly_one_shard_and_shards_are_even(of: int) -> None:
    parts = [{part for part in HASHES if Shard(number, of).has(part)} for number in range(1, of + 1)]
    assert sum(map(len, parts)) == len(HASHES)
    assert set().union(*parts) == set(HASHES)
    even = len(HASHES) / of
    assert max(abs(len(part) - even) for part in parts) < 5 * even**0.5


def test_shards_are_cut_alike_on_every_machine_and_in_every_version() -> None:
    assert Shard(2, 8).has("00000000000000000000000000000001")  # the number 1
    assert Shard(4, 8).has("7rjj86a15146cq1d3qy068lml7n7rzmb")  # ends with the digit 10, which is 1 * 8 + 2
    assert all(map(WHOLE.has, HASHES))


def test_a_shard_is_read_as_people_count() -> None:
    assert Shard.parse("2/8") == Shard(2, 8)


@pytest.mark.parametrize("text", ["", "2", "0/8", "9/8", "2/0", "-1/8", "2/8/", " 2/8", "a/b", "2/1000000"])
def test_what_is_no_shard_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="the second of eight is 2/8"):
        Shard.parse(text)
