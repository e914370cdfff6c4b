import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats import base32


def test_the_least_significant_bits_of_the_first_byte_come_last() -> None:
    assert base32.encode(bytes([1, 0, 0, 0, 0])) == "00000001"
    assert base32.encode(bytes([0, 0, 0, 0, 0xF8])) == "z0000000"


def test_nothing_is_no_digits() -> None:
    assert base32.encode(b"") == ""
    assert base32.decode("", what="test") == b""


@pytest.mark.parametrize(("byte_count", "digits"), [(0, 0), (1, 2), (5, 8), (16, 26), (20, 32), (32, 52), (64, 103)])
def test_the_number_of_digits_is_the_number_of_bits_over_five_rounded_up(byte_count: int, digits: int) -> None:
    assert base32.digits_for(byte_count) == digits
    assert len(base32.encode(bytes(byte_count))) == digits


@given(st.binary(max_size=80))
def test_what_is_encoded_decodes_to_itself(data: bytes) -> None:
    assert base32.decode(base32.encode(data), what="test") == data


@given(st.text() | st.text(base32.ALPHABET))
def test_any_text_is_the_only_spelling_of_its_bytes_or_a_format_error(text: str) -> None:
    try:
        data = base32.decode(text, what="test")
    except FormatError:
        return
    assert base32.encode(data) == text


@pytest.mark.parametrize("strange", ["e", "o", "t", "u", "A", "_", " ", "-", "é", "٣"])
def test_a_character_outside_the_alphabet_is_named_with_its_place(strange: str) -> None:
    with pytest.raises(FormatError) as caught:
        base32.decode(f"00{strange}0", what="store path")
    assert caught.value.what == "store path"
    assert caught.value.offset == 2


@pytest.mark.parametrize("text", ["0", "000", "000000", "z0", "80"])
def test_digits_that_are_no_whole_number_of_bytes_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="whole number of bytes"):
        base32.decode(text, what="test")
