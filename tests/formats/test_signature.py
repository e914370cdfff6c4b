from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats.signature import CACHE_NIXOS_ORG_KEY, PublicKey, PublicKeys, SecretKey, Signature

GOLDEN = Path(__file__).parent.parent / "golden" / "narinfo"
KEY = SecretKey.parse((GOLDEN / "test.example-1.secret").read_text())
NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=":"), min_size=1)

FINGERPRINT = (
    "1;/nix/store/4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0;"
    "sha256:1iw1j0ckzgnjvgj3yw6spv0x4jpncbyfrfwy553y8arcqpsj9i98;704;"
)
SIGNED_BY_NIX = Signature.parse(
    "test.example-1:6uIs1rGyl0ECmQun7LFrB3P9ErThxaDI8OQOAtqbS2rV6xZrpT4OjFbZN0SWFUNx+MD3A86IEmjqH5O6ErwFAQ=="
)


def test_a_key_made_by_nix_signs_as_nix_does() -> None:
    assert KEY.sign(FINGERPRINT) == SIGNED_BY_NIX


def test_the_public_half_is_the_one_nix_wrote() -> None:
    text = (GOLDEN / "test.example-1.public").read_text()
    assert str(KEY.public) == text
    assert PublicKeys.parse(text).verify(FINGERPRINT, [SIGNED_BY_NIX]) == "test.example-1"


def test_keys_and_signatures_are_written_as_they_were_read() -> None:
    assert KEY.to_text() == (GOLDEN / "test.example-1.secret").read_text()
    assert SecretKey.parse(KEY.to_text() + "\n") == KEY
    assert Signature.parse(str(SIGNED_BY_NIX)) == SIGNED_BY_NIX
    assert PublicKey.parse(str(CACHE_NIXOS_ORG_KEY)) == CACHE_NIXOS_ORG_KEY


@given(NAMES, st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=30)
def test_what_a_new_key_signs_its_public_half_verifies(name: str, text: str) -> None:
    key = SecretKey.generate(name)
    signature = Signature.parse(str(key.sign(text)))
    trusted = PublicKeys.parse(str(PublicKeys((CACHE_NIXOS_ORG_KEY, key.public))))
    assert len(trusted) == 2
    assert trusted.verify(text, [signature]) == name
    assert trusted.verify(f"{text}.", [signature]) is None


def test_one_good_signature_among_bad_and_unknown_ones_is_enough() -> None:
    stranger = SecretKey.generate("stranger-1").sign(FINGERPRINT)
    forged = Signature("test.example-1", bytes(64))
    trusted = PublicKeys((KEY.public,))
    assert trusted.verify(FINGERPRINT, [stranger, forged, SIGNED_BY_NIX]) == "test.example-1"
    assert trusted.verify(FINGERPRINT, [stranger, forged]) is None
    assert trusted.verify(FINGERPRINT, []) is None


def test_a_stranger_under_a_trusted_name_is_not_believed() -> None:
    impostor = SecretKey.generate("test.example-1").sign(FINGERPRINT)
    assert PublicKeys((KEY.public,)).verify(FINGERPRINT, [impostor]) is None


def test_of_two_keys_with_one_name_the_first_counts() -> None:
    other = SecretKey.generate("test.example-1").public
    assert PublicKeys((KEY.public, other)).verify(FINGERPRINT, [SIGNED_BY_NIX]) == "test.example-1"
    assert PublicKeys((other, KEY.public)).verify(FINGERPRINT, [SIGNED_BY_NIX]) is None


def test_no_keys_trust_nobody() -> None:
    assert PublicKeys.parse(" \n").keys == ()
    assert PublicKeys().verify(FINGERPRINT, [SIGNED_BY_NIX]) is None


def test_a_secret_is_never_shown() -> None:
    encoded = KEY.to_text().partition(":")[2]
    assert encoded[:10] not in f"{KEY!r} {KEY}"
    for damaged in (KEY.to_text()[:-4], KEY.to_text() + "x", KEY.to_text().replace(":", " ")):
        with pytest.raises(FormatError) as caught:
            SecretKey.parse(damaged)
        assert encoded[:10] not in str(caught.value)


def test_a_secret_key_whose_halves_do_not_belong_together_is_refused() -> None:
    with pytest.raises(FormatError, match="public half"):
        SecretKey("test.example-1", KEY.key64[:32] + CACHE_NIXOS_ORG_KEY.key32)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "a\0", " ", "\ud800"])
def test_a_key_name_is_printable_and_one_word(name: str) -> None:
    with pytest.raises(FormatError):
        SecretKey.generate(name)


@given(st.text() | st.from_regex(r"[a-z]*:[A-Za-z0-9+/]*=?=?", fullmatch=True))
def test_any_text_is_a_key_or_a_signature_or_a_format_error(text: str) -> None:
    for parse in (Signature.parse, PublicKey.parse, PublicKeys.parse, SecretKey.parse):
        try:
            parse(text)
        except FormatError:
            continue
