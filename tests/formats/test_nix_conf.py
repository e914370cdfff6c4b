from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats.nix_conf import MAX_INCLUDE_DEPTH, NixConf
from narfs.formats.signature import CACHE_NIXOS_ORG_KEY, PublicKeys, SecretKey

KEY = SecretKey.generate("test.example-1").public


def files(texts: Mapping[str, str]) -> Callable[[str, bool], str | None]:
    """Include from a dict instead of a disk."""

    def include(path: str, required: bool) -> str | None:  # noqa: ARG001 - the dict needs no telling
        return texts.get(path)

    return include


NO_FILES = files({})


def test_without_settings_it_is_nix_as_it_comes() -> None:
    conf = NixConf.parse("", NO_FILES)
    assert conf == NixConf()
    assert conf.substituters == ("https://cache.nixos.org/",)
    assert conf.trusted_public_keys == PublicKeys((CACHE_NIXOS_ORG_KEY,))
    assert conf.netrc_file == "/etc/nix/netrc"
    assert conf.ssl_cert_file is None
    assert conf.store == "auto"


def test_settings_are_read_and_comments_and_others_settings_are_not() -> None:
    text = f"""
        # a comment
        substituters = https://a.example  https://b.example # two of them
        trusted-public-keys = {KEY}
        netrc-file = /etc/netrc
        ssl-cert-file = /etc/ssl/ca.pem
        store = /mnt
        experimental-features = nix-command flakes
        trusted-substituters = https://c.example
        sandbox =
    """
    assert NixConf.parse(text, NO_FILES) == NixConf(
        substituters=("https://a.example", "https://b.example"),
        trusted_public_keys=PublicKeys((KEY,)),
        netrc_file="/etc/netrc",
        ssl_cert_file="/etc/ssl/ca.pem",
        store="/mnt",
    )


def test_extra_appends_to_the_default_too() -> None:
    conf = NixConf.parse(f"extra-substituters = /lake\nextra-trusted-public-keys = {KEY}", NO_FILES)
    assert conf.substituters == ("https://cache.nixos.org/", "/lake")
    assert conf.trusted_public_keys.keys == (CACHE_NIXOS_ORG_KEY, KEY)


def test_a_later_plain_line_replaces_what_was_appended() -> None:
    text = "extra-substituters = /a\nsubstituters = /b\nextra-substituters = /c"
    assert NixConf.parse(text, NO_FILES).substituters == ("/b", "/c")


def test_an_empty_value_empties() -> None:
    conf = NixConf.parse("substituters =\ntrusted-public-keys =\nssl-cert-file =", NO_FILES)
    assert conf.substituters == ()
    assert len(conf.trusted_public_keys) == 0
    assert conf.ssl_cert_file is None


def test_names_from_before_nix_2_are_known() -> None:
    text = f"binary-caches = /a\nextra-binary-caches = /b\nbinary-cache-public-keys = {KEY}"
    conf = NixConf.parse(text, NO_FILES)
    assert conf.substituters == ("/a", "/b")
    assert conf.trusted_public_keys.keys == (KEY,)


def test_only_lists_can_be_appended_to() -> None:
    assert NixConf.parse("extra-netrc-file = /x\nextra-ssl-cert-file = /y\nextra-store = /z", NO_FILES) == NixConf()


def test_a_second_file_counts_on_top_of_the_first() -> None:
    system = NixConf.parse("substituters = /a\nnetrc-file = /n", NO_FILES)
    user = NixConf.parse("extra-substituters = /b", NO_FILES, path="/home/u/.config/nix/nix.conf", base=system)
    assert user.substituters == ("/a", "/b")
    assert user.netrc_file == "/n"


def test_an_included_file_counts_where_it_is_included_relative_to_its_includer() -> None:
    include = files({"/etc/nix/d/a.conf": "include b.conf\nextra-substituters = /a", "/etc/nix/d/b.conf": "store = /b"})
    text = "substituters = /0\ninclude d/a.conf\nextra-substituters = /1\n!include absent.conf\n!include /nowhere"
    conf = NixConf.parse(text, include, path="/etc/nix/nix.conf")
    assert conf.substituters == ("/0", "/a", "/1")
    assert conf.store == "/b"


def test_the_reader_is_told_which_files_must_exist() -> None:
    asked: list[tuple[str, bool]] = []

    def include(path: str, required: bool) -> str:
        asked.append((path, required))
        return ""

    NixConf.parse("include a\n!include /b", include)
    assert asked == [("/etc/nix/a", True), ("/b", False)]


def test_a_missing_file_that_must_exist_is_an_error() -> None:
    with pytest.raises(FormatError, match=r"/etc/nix/nix.conf: at byte 10: expected a file '/etc/nix/a'"):
        NixConf.parse("store = /\ninclude a", NO_FILES)


def test_a_file_that_includes_itself_is_an_error() -> None:
    with pytest.raises(FormatError, match=f"at most {MAX_INCLUDE_DEPTH} files"):
        NixConf.parse("!include nix.conf", files({"/etc/nix/nix.conf": "!include nix.conf"}))


@pytest.mark.parametrize(
    "line", ["substituters", "substituters /a", "= /a", "include", "include a b", "store=/a", "a b = c"]
)
def test_a_line_that_is_no_setting_is_named_with_its_file_and_place(line: str) -> None:
    include = files({"/x.conf": f"# ä\n{line}\n"})
    with pytest.raises(FormatError) as caught:
        NixConf.parse("include /x.conf", include)
    assert caught.value.what == "/x.conf"
    assert caught.value.offset == 5


def test_a_malformed_key_is_named_with_its_setting() -> None:
    with pytest.raises(FormatError, match=r"at byte 10: expected trusted-public-keys: "):
        NixConf.parse("store = /\ntrusted-public-keys = nonsense", NO_FILES)


LINES = st.lists(
    st.text()
    | st.builds(
        "{} = {}".format,
        st.sampled_from(["substituters", "extra-trusted-public-keys", "store", "ssl-cert-file"]),
        st.text(),
    )
)


@given(LINES)
def test_any_text_is_settings_or_a_format_error(lines: list[str]) -> None:
    try:
        NixConf.parse("\n".join(lines), NO_FILES)
    except FormatError:
        return
