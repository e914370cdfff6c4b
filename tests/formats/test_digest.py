import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats.digest import DIGEST_BYTES, Hash

GOLDEN = Path(__file__).parent.parent / "golden" / "narinfo"
SPELLINGS = [line.split() for line in (GOLDEN / "hashes.txt").read_text().splitlines()]


@pytest.mark.parametrize("spellings", SPELLINGS, ids=lambda spellings: spellings[0].partition(":")[0])
def test_every_spelling_of_nix_means_the_same_hash(spellings: list[str]) -> None:
    hex_, nix32, base64, sri = spellings
    algo, _, digits = hex_.partition(":")
    hash_ = Hash(algo, hashlib.new(algo, b"narfs").digest())
    assert (hash_.hex, hash_.nix32, hash_.sri) == (hex_, nix32, sri)
    for text in (*spellings, f"{algo}:{digits.upper()}"):
        assert Hash.parse(text) == hash_
    assert base64 == sri.replace("-", ":", 1)


@given(st.sampled_from(sorted(DIGEST_BYTES)), st.data())
def test_what_is_written_is_read_back(algo: str, data: st.DataObject) -> None:
    length = DIGEST_BYTES[algo]
    hash_ = Hash(algo, data.draw(st.binary(min_size=length, max_size=length)))
    for text in (hash_.hex, hash_.nix32, hash_.sri):
        assert Hash.parse(text) == hash_


@given(
    st.text() | st.builds("{}{}{}".format, st.sampled_from([*DIGEST_BYTES, "sha3"]), st.sampled_from(":-"), st.text())
)
def test_any_text_is_a_hash_or_a_format_error(text: str) -> None:
    try:
        hash_ = Hash.parse(text)
    except FormatError:
        return
    assert text.lower() in {hash_.hex, hash_.nix32, hash_.sri.lower(), hash_.sri.lower().replace("-", ":", 1)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256-",
        "sha224:" + "0" * 56,
        "0" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + " " * 64,
        "sha256:" + "0" * 51,
        "sha256:e" + "0" * 51,
        "sha256:z" + "0" * 51,
        "sha256-" + "0" * 64,
        "sha256-" + "0" * 52,
        "sha256-" + "A" * 43,
        "sha256-" + "A" * 42 + "B=",
        "sha256-" + "A" * 43 + "=\n",
        "sha256-" + "A" * 44,
        "sha1-" + "A" * 43 + "=",
        "sha256:é",
    ],
)
def test_a_hash_that_nix_does_not_write_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        Hash.parse(text)


def test_a_digest_has_the_length_of_its_algorithm_from_birth() -> None:
    with pytest.raises(FormatError, match="20 bytes for 'sha256'"):
        Hash("sha256", bytes(20))
