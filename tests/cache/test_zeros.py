"""Pieces of zeros that nobody has compared are found, and no others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from narfs.cache.zeros import PIECE, Zeros

PIECES = st.sampled_from(
    (
        bytes(PIECE),
        bytes(PIECE - 1) + b"x",
        b"x" + bytes(PIECE - 1),
        bytes(PIECE // 2) + b"x" * (PIECE // 2),
        b"x" * PIECE,
    )
)


@given(st.lists(PIECES, min_size=1, max_size=40), st.binary(max_size=8), st.data())
def test_doubtful_is_a_piece_of_zeros_that_was_not_noted(pieces: list[bytes], tail: bytes, data: st.DataObject) -> None:
    nar = b"".join(pieces) + tail + b")"
    zeros, noted = Zeros(len(nar)), set[int]()
    for _ in range(2):
        start = data.draw(st.integers(0, len(nar)))
        end = data.draw(st.integers(start, len(nar)))
        zeros.note(memoryview(nar)[start:end], start)
        noted |= set(range(-(-start // PIECE), end // PIECE))
    first = data.draw(st.integers(0, len(pieces)))
    last = data.draw(st.integers(first, len(pieces)))
    expected = any(pieces[each] == bytes(PIECE) and each not in noted for each in range(first, last))
    assert zeros.doubtful(memoryview(nar)[first * PIECE : last * PIECE], first * PIECE) == expected


def test_a_last_piece_that_is_shorter_is_looked_at_too() -> None:
    zeros = Zeros(PIECE + 8)
    assert zeros.doubtful(b"x" * PIECE + bytes(8), 0)
    assert not zeros.doubtful(b"x" * PIECE + bytes(7) + b")", 0)
