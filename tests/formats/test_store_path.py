import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats import base32
from narfs.formats.store_path import MAX_NAME_CHARS, StorePath, make_source_path

HASH_PART = "4vqp6a77qcgdwba8y8g29h4gqihyvcyn"
HELLO = StorePath(f"{HASH_PART}-hello-1.0")


def test_a_store_path_is_a_hash_part_and_a_name() -> None:
    assert HELLO.hash_part == HASH_PART
    assert HELLO.name == "hello-1.0"
    assert HELLO.base_name == f"{HASH_PART}-hello-1.0"
    assert HELLO.path == str(HELLO) == f"/nix/store/{HASH_PART}-hello-1.0"
    assert len(HELLO.digest) == 20
    assert StorePath.from_digest(HELLO.digest, HELLO.name) == HELLO


def test_it_is_read_from_text_from_a_file_name_and_from_an_absolute_path() -> None:
    assert StorePath.parse(HELLO.base_name) == HELLO
    assert StorePath.parse(HELLO.base_name.encode()) == HELLO
    assert StorePath.parse_absolute(HELLO.path) == HELLO


@pytest.mark.parametrize(
    ("below", "expected"), [("", ""), ("/", ""), ("/bin/hello", "bin/hello"), ("//bin/", "bin"), ("/..", "..")]
)
def test_a_path_below_it_is_split(below: str, expected: str) -> None:
    assert StorePath.split(HELLO.path + below) == (HELLO, expected)


@pytest.mark.parametrize(
    "path", ["", "/", "/nix/store", "/nix/store/", HELLO.base_name, f"/gnu/store/{HELLO.base_name}"]
)
def test_a_path_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(FormatError):
        StorePath.parse_absolute(path)
    with pytest.raises(FormatError):
        StorePath.split(path)


def test_an_absolute_path_has_nothing_below_it() -> None:
    with pytest.raises(FormatError):
        StorePath.parse_absolute(f"{HELLO.path}/bin")


@pytest.mark.parametrize("name", ["a", "+-._?=", ".hidden", "...", "..a", "-", "-.", "a" * MAX_NAME_CHARS, "0.-1"])
def test_a_name_may_hold_what_nix_allows(name: str) -> None:
    assert StorePath(f"{HASH_PART}-{name}").name == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".-a", "..-a", ".-", "a" * (MAX_NAME_CHARS + 1), "a/b", "a b", "a\n", "é", "٣", "a\0", "~", ","],
)
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(FormatError):
        StorePath(f"{HASH_PART}-{name}")


@pytest.mark.parametrize("hash_part", [HASH_PART[1:], f"{HASH_PART}0", "e" * 32, HASH_PART.upper(), ""])
def test_a_hash_part_outside_the_grammar_is_refused(hash_part: str) -> None:
    with pytest.raises(FormatError):
        StorePath(f"{hash_part}-hello")


def test_a_refused_name_is_shown_shortened_and_printable() -> None:
    with pytest.raises(FormatError) as caught:
        StorePath.parse(b"\xff\n" * 1000)
    assert len(caught.value.found) <= 80
    assert caught.value.found.isprintable()
    assert caught.value.found.isascii()


@given(st.binary(max_size=260) | st.from_regex(rb"[0-9a-z]{32}-[\x20-\x7e]*", fullmatch=True))
def test_any_file_name_is_a_store_path_or_a_format_error(name: bytes) -> None:
    try:
        path = StorePath.parse(name)
    except FormatError:
        return
    assert path.base_name.encode() == name
    assert StorePath.from_digest(path.digest, path.name) == path


@given(st.lists(st.binary(min_size=20, max_size=20)))
def test_store_paths_are_ordered_as_their_text(digests: list[bytes]) -> None:
    paths = [StorePath.from_digest(digest, "x") for digest in digests]
    assert [path.path for path in sorted(paths)] == sorted(path.path for path in paths)


# The vectors are those of tests/golden/narinfo: `nix store add-path` and `nix store make-content-addressed`, Nix 2.8.0.


def test_a_source_path_without_references_is_that_of_nix() -> None:
    nar_sha256 = bytes.fromhex("28c524f5c52c2be447299ebbecfc62f64ad2c1beda703fe4dbd2be3f199081c7")
    assert make_source_path("source-1.0", nar_sha256) == StorePath("4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0")


def test_a_source_path_with_references_is_that_of_nix() -> None:
    nar_sha256 = base32.decode("09517qnmbc04c5cfy59m22mvs7b3zvrn6kmgkd74hgf2nap3d190", what="NarHash")
    references = [
        StorePath("crbhdrl3rwii8ikmgjgzfgcv8s03m730-flat-1.0"),
        StorePath("4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0"),
    ]
    expected = StorePath("a7s0gzjrmw7yfam9jv8grpixsn0cmidq-references-1.0")
    assert make_source_path("references-1.0", nar_sha256, references) == expected


def test_the_order_of_references_does_not_matter() -> None:
    references = [StorePath.from_digest(bytes([n]) * 20, "x") for n in range(5)]
    sha256 = hashlib.sha256(b"nar").digest()
    path = make_source_path("hello", sha256, references)
    assert make_source_path("hello", sha256, [*references[::-1], references[2]]) == path
    assert make_source_path("hello", sha256, references[1:]) != path
    assert make_source_path("hello", sha256) != path


def test_a_source_path_has_a_valid_name() -> None:
    with pytest.raises(FormatError):
        make_source_path("hello world", bytes(32))
