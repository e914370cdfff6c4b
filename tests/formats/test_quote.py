import ast

from hypothesis import given
from hypothesis import strategies as st

from narfs.formats.quote import MAX_QUOTE_CHARS, quote


@given(st.binary() | st.text() | st.text(min_size=MAX_QUOTE_CHARS))
def test_a_quote_is_short_printable_and_whole_where_it_can_be(strange: bytes | str) -> None:
    shown = quote(strange)
    assert len(shown) <= MAX_QUOTE_CHARS
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.endswith("...") or ast.literal_eval(shown) == strange


def test_a_long_one_is_cut() -> None:
    assert quote("x" * 79) == "'" + "x" * 76 + "..."
    assert quote("x" * 78) == "'" + "x" * 78 + "'"
