import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats.cache_info import MAX_CACHE_INFO_BYTES, CacheInfo

PATHS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"])).map("/{}".format)


def test_what_cache_nixos_org_says_is_read() -> None:
    data = b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n"
    assert CacheInfo.parse(data) == CacheInfo("/nix/store", want_mass_query=True, priority=40)
    assert CacheInfo.parse(data).to_bytes() == data


def test_what_is_missing_has_a_default() -> None:
    assert CacheInfo.parse(b"") == CacheInfo("/nix/store", want_mass_query=False, priority=50)


def test_a_file_written_by_hand_may_have_spaces_blank_lines_and_unknown_keys() -> None:
    data = b"StoreDir:/nix/store \r\n\r\nGreeting: hallo, w\xf6rld: a\r\nPriority:   -3\nPriority: 10"
    assert CacheInfo.parse(data) == CacheInfo(priority=10)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"Priority: 1\n<!doctype html>\n", 12),
        (b"Priority: high\n", 0),
        (b"Priority: \xb2\n", 0),
        (b"Priority: 99999999999\n", 0),
        (b"StoreDir: /nix/store\nWantMassQuery: yes\n", 21),
        (b"StoreDir: nix\n", 0),
        (b"StoreDir:\n", 0),
        (b"x:\nStoreDir: /\xff\n", 3),
        (b"\n" * (MAX_CACHE_INFO_BYTES + 1), MAX_CACHE_INFO_BYTES),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(data: bytes, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        CacheInfo.parse(data)
    assert caught.value.offset == offset


@given(PATHS, st.booleans(), st.integers(-(10**9) + 1, 10**9 - 1))
def test_what_is_written_is_read_back(store_dir: str, want_mass_query: bool, priority: int) -> None:
    info = CacheInfo(store_dir, want_mass_query, priority)
    assert CacheInfo.parse(info.to_bytes()) == info


KEYS = st.sampled_from([b"StoreDir", b"WantMassQuery", b"Priority"])


@given(st.binary() | st.builds(b"%b:%b".__mod__, st.tuples(KEYS, st.binary())))
def test_any_bytes_are_a_cache_info_or_a_format_error(data: bytes) -> None:
    try:
        info = CacheInfo.parse(data)
    except FormatError:
        return
    assert CacheInfo.parse(info.to_bytes()) == info
