from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narfs.errors import FormatError
from narfs.formats.digest import Hash
from narfs.formats.narinfo import MAX_NARINFO_BYTES, MAX_SIZE, NarInfo
from narfs.formats.signature import PublicKeys, SecretKey, Signature
from narfs.formats.store_path import StorePath, make_source_path

GOLDEN = Path(__file__).parent.parent / "golden" / "narinfo"
KINDS = ("source", "references", "self", "flat", "text", "built")
KEY = SecretKey.parse((GOLDEN / "test.example-1.secret").read_text())


def golden(kind: str) -> NarInfo:
    return NarInfo.parse((GOLDEN / f"{kind}.narinfo").read_bytes())


HASH = "sha256:1iw1j0ckzgnjvgj3yw6spv0x4jpncbyfrfwy553y8arcqpsj9i98"
BASE_NAME = "4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0"
LEAST = f"StorePath: /nix/store/{BASE_NAME}\nURL: nar/x.nar\nNarHash: {HASH}\nNarSize: 704\n"


@pytest.mark.parametrize("kind", KINDS)
def test_what_nix_wrote_is_written_back_to_the_byte(kind: str) -> None:
    assert golden(kind).to_bytes() == (GOLDEN / f"{kind}.narinfo").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_nix_signed_verifies_and_our_signature_is_the_same(kind: str) -> None:
    narinfo = golden(kind)
    assert PublicKeys((KEY.public,)).verify(narinfo.fingerprint, narinfo.signatures) == "test.example-1"
    assert replace(narinfo, signatures=()).sign(KEY) == narinfo


def test_every_field_of_an_ordinary_narinfo_is_read() -> None:
    assert golden("built") == NarInfo(
        path=StorePath("dyaf4gxwc3ibl6nw0baaf39khwylagss-built-1.0"),
        url="nar/0crfcbwdl0rar9ix9svw2am5apgw6sbwg3a64f5cvx3zkqf1chji.nar.xz",
        compression="xz",
        nar_hash=Hash.parse("sha256:19gx4fbrg5qbg7s06qyn23daqgrk10nz2mld9j2gd5cikl0j1sqa").digest,
        nar_size=224,
        references=(StorePath(BASE_NAME), StorePath("dyaf4gxwc3ibl6nw0baaf39khwylagss-built-1.0")),
        file_hash=Hash.parse("sha256:0crfcbwdl0rar9ix9svw2am5apgw6sbwg3a64f5cvx3zkqf1chji"),
        file_size=216,
        deriver="mi5hkwxrpv3g4hkcgya0wh05sdklw4x0-built-1.0.drv",
        signatures=(
            Signature.parse(
                "test.example-1:"
                "PxC9xtdtO1GUsptC0+l4FYbjLuJzkHri/5UxYI79SIOIHlVjSRdy3fg0T4mlL3mt52IY+pG0TpmI4om7TeITAQ=="
            ),
        ),
    )


def test_four_lines_are_enough_and_mean_bzip2() -> None:
    narinfo = NarInfo.parse(LEAST.encode())
    assert narinfo == NarInfo(StorePath(BASE_NAME), "nar/x.nar", "bzip2", Hash.parse(HASH).digest, 704)
    assert NarInfo.parse(f"{LEAST}Compression: \n".encode()) == narinfo


@pytest.mark.parametrize("spelling", ["nix32", "hex", "sri"])
def test_the_nar_hash_may_be_spelled_in_every_way(spelling: str) -> None:
    text = LEAST.replace(HASH, getattr(Hash.parse(HASH), spelling))
    assert NarInfo.parse(text.encode()) == NarInfo.parse(LEAST.encode())


def test_lines_may_come_in_any_order() -> None:
    text = "".join(sorted(LEAST.splitlines(keepends=True)))
    assert NarInfo.parse(text.encode()) == NarInfo.parse(LEAST.encode())


def test_unknown_lines_are_kept() -> None:
    narinfo = NarInfo.parse(f"X-Narfs-Index: a: b\n{LEAST}System: \nX-Ä: \u2028\n".encode())
    assert narinfo.extra == (("X-Narfs-Index", "a: b"), ("System", ""), ("X-Ä", "\u2028"))
    assert NarInfo.parse(narinfo.to_bytes()) == narinfo


def test_what_is_unknown_is_none() -> None:
    narinfo = NarInfo.parse(f"{LEAST}Deriver: unknown-deriver\nFileSize: 0\nReferences: \n".encode())
    assert narinfo == NarInfo.parse(LEAST.encode())


@pytest.mark.parametrize(("key", "attribute"), [("URL", "url"), ("Compression", "compression")])
def test_of_most_lines_the_last_counts(key: str, attribute: str) -> None:
    assert getattr(NarInfo.parse(f"{LEAST}{key}: a\n{key}: b\n".encode()), attribute) == "b"


@pytest.mark.parametrize("line", ["References: ", "CA: text:sha256:0"])
def test_references_and_ca_come_once(line: str) -> None:
    with pytest.raises(FormatError) as caught:
        NarInfo.parse(f"{LEAST}{line}\n{line}\n".encode())
    assert caught.value.offset == len(LEAST) + len(line) + 1


@pytest.mark.parametrize("key", ["StorePath", "URL", "NarHash", "NarSize"])
def test_a_required_line_that_is_missing_is_named(key: str) -> None:
    text = "".join(line for line in LEAST.splitlines(keepends=True) if not line.startswith(key))
    with pytest.raises(FormatError, match=f"expected a line {key}, found the end") as caught:
        NarInfo.parse(text.encode())
    assert caught.value.offset == len(text)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "X-Narfs: a\r",
        "X-Narfs\r: a",
        "X-Narfs",
        "X-Narfs:",
        "X-Narfs:a",
        ": a",
        "URL: ",
        "StorePath: 4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0",
        "StorePath: /gnu/store/4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0",
        "NarHash: sha1:r57gjb3aqmdawlzkjfsv9zxqmqwg9k4h",
        "NarHash: 28c524f5c52c2be447299ebbecfc62f64ad2c1beda703fe4dbd2be3f199081c7",
        "NarSize: 0",
        "NarSize: -1",
        "NarSize: +1",
        "NarSize: 1_0",
        "NarSize: 0x1",
        "NarSize:  1",
        "NarSize: ²",
        "NarSize: ٣",
        "NarSize: 18446744073709551616",
        "NarSize: 000000000000000000001",
        "NarSize: ",
        "FileSize: 1.5",
        "FileHash: nonsense",
        "References: hello",
        "References: /nix/store/4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0",
        "References: 4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0\t",
        "Deriver: ",
        "Deriver: /nix/store/4vqp6a77qcgdwba8y8g29h4gqihyvcyn-source-1.0",
        "Sig: nonsense",
        "Sig: a:AAAA",
    ],
)
def test_a_malformed_line_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(FormatError) as caught:
        NarInfo.parse(f"{LEAST}{line}\nX-Behind: 1\n".encode())
    assert caught.value.what == "narinfo"
    assert caught.value.offset == len(LEAST)
    assert len(caught.value.found) <= 80


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(FormatError, match="expected UTF-8"):
        NarInfo.parse(LEAST.encode() + b"X: \xff\n")


def test_the_last_line_ends_with_a_newline() -> None:
    with pytest.raises(FormatError, match="newline after the last line"):
        NarInfo.parse(LEAST.encode()[:-1])


def test_the_size_is_bounded() -> None:
    data = f"{LEAST}X: ".encode().ljust(MAX_NARINFO_BYTES - 1, b"x") + b"\n"
    assert NarInfo.parse(data).path.base_name == BASE_NAME
    with pytest.raises(FormatError, match=f"at most {MAX_NARINFO_BYTES} bytes"):
        NarInfo.parse(data + b"\n")


def test_it_describes_what_was_asked_for() -> None:
    data = LEAST.encode()
    path = StorePath(BASE_NAME)
    assert NarInfo.parse(data, expect=path) == NarInfo.parse(data, expect=path.hash_part) == NarInfo.parse(data)
    for other in (StorePath(f"{path.hash_part}-other"), "0" * 32):
        with pytest.raises(FormatError, match="expected StorePath: "):
            NarInfo.parse(data, expect=other)


def test_the_fingerprint_names_sorted_full_references_once() -> None:
    a, b = StorePath(f"{'0' * 32}-a"), StorePath(f"{'1' * 32}-b")
    narinfo = replace(NarInfo.parse(LEAST.encode()), references=(b, a, b))
    assert narinfo.fingerprint == f"1;/nix/store/{BASE_NAME};{HASH};704;{a.path},{b.path}"


def test_signing_again_replaces_only_the_own_signature() -> None:
    other = SecretKey.generate("other-1")
    narinfo = NarInfo.parse(LEAST.encode()).sign(KEY).sign(other)
    assert narinfo.sign(KEY).signatures == narinfo.signatures[::-1]


@pytest.mark.parametrize(
    ("kind", "proven"),
    [("source", True), ("references", True), ("self", False), ("flat", False), ("text", False), ("built", False)],
)
def test_only_a_path_that_follows_from_its_nar_hash_needs_no_signature(kind: str, proven: bool) -> None:
    assert replace(golden(kind), signatures=()).content_address_matches() is proven


@pytest.mark.parametrize(
    "lie",
    [
        {"nar_hash": bytes(32)},
        {"nar_hash": bytes(32), "ca": f"fixed:r:{Hash('sha256', bytes(32)).nix32}"},
        {"path": StorePath("4vqp6a77qcgdwba8y8g29h4gqihyvcyn-other-1.0")},
        {"references": (StorePath("crbhdrl3rwii8ikmgjgzfgcv8s03m730-flat-1.0"),)},
        {"references": (StorePath(BASE_NAME),)},
        {"ca": None},
        {"ca": ""},
        {"ca": "fixed:r:sha256:"},
        {"ca": f"fixed:{HASH}"},
        {"ca": f"text:{HASH}"},
        {"ca": f"fixed:git:{HASH}"},
        {"ca": "fixed:r:sha1:r57gjb3aqmdawlzkjfsv9zxqmqwg9k4h"},
        {"ca": f"fixed:r:{HASH}:sha256:"},
    ],
)
def test_a_lie_about_a_content_address_proves_nothing(lie: dict[str, object]) -> None:
    assert not replace(golden("source"), **lie).content_address_matches()  # type: ignore[arg-type] # one field each


@pytest.mark.parametrize(
    "nonsense",
    [
        {"url": ""},
        {"url": "a\nSig: b"},
        {"compression": ""},
        {"ca": "a\r"},
        {"extra": (("X", "a\nb"),)},
        {"nar_hash": bytes(20)},
        {"nar_size": 0},
        {"nar_size": MAX_SIZE + 1},
        {"deriver": "a\nb"},
    ],
)
def test_what_could_not_be_read_back_cannot_be_made(nonsense: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        replace(golden("source"), **nonsense)  # type: ignore[arg-type] # one field each


STORE_PATHS = st.builds(
    StorePath.from_digest,
    st.binary(min_size=20, max_size=20),
    st.from_regex(r"[0-9A-Za-z+\-_?=][0-9A-Za-z+\-._?=]{0,20}", fullmatch=True),
)
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30)
SHA256 = st.binary(min_size=32, max_size=32)
NARINFOS = st.builds(
    NarInfo,
    path=STORE_PATHS,
    url=LINES.filter(bool),
    compression=st.sampled_from(["none", "xz", "zstd"]),
    nar_hash=SHA256,
    nar_size=st.integers(1, MAX_SIZE),
    references=st.lists(STORE_PATHS, max_size=4).map(tuple),
    file_hash=st.none() | st.builds(Hash, st.just("sha256"), SHA256),
    file_size=st.none() | st.integers(1, MAX_SIZE),
    deriver=st.none() | STORE_PATHS.map(lambda path: path.base_name),
    signatures=st.lists(st.builds(Signature, st.just("a-1"), st.binary(min_size=64, max_size=64)), max_size=3).map(
        tuple
    ),
    ca=st.none() | LINES,
    extra=st.lists(st.tuples(st.sampled_from(["X-Narfs-A", "System"]), LINES), max_size=3).map(tuple),
)


@given(NARINFOS)
@settings(max_examples=50)
def test_what_is_written_is_read_back(narinfo: NarInfo) -> None:
    assert NarInfo.parse(narinfo.to_bytes(), expect=narinfo.path) == narinfo


@given(st.binary() | st.lists(st.binary()).map(b": ".join))
def test_any_bytes_are_a_narinfo_or_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        NarInfo.parse(data)


@given(st.sampled_from(KINDS), st.data())
@settings(max_examples=200)
def test_a_damaged_narinfo_is_another_narinfo_or_a_format_error(kind: str, data: st.DataObject) -> None:
    whole = (GOLDEN / f"{kind}.narinfo").read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 3, len(whole))))
    try:
        narinfo = NarInfo.parse(whole[:start] + data.draw(st.binary(max_size=3)) + whole[end:])
    except FormatError:
        return
    assert NarInfo.parse(narinfo.to_bytes()) == narinfo


@given(NARINFOS, STORE_PATHS)
@settings(max_examples=30)
def test_a_source_path_is_proven_by_its_nar_hash(narinfo: NarInfo, named: StorePath) -> None:
    path = make_source_path(named.name, narinfo.nar_hash, narinfo.references)
    ca = f"fixed:r:{Hash('sha256', narinfo.nar_hash).nix32}"
    assert replace(narinfo, path=path, ca=ca).content_address_matches()
