from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from narfs.formats.store_path import StorePath, make_source_path
from narfs.publish.references import MentionScanner, Named, Survey, name_trees, references_first

LIBS = StorePath("0123456789abcdfghijklmnpqrsvwxyz-libs")


def survey(name: str, *mentions: StorePath) -> Survey:
    return Survey(name, name.encode().ljust(32, b"."), 1000, frozenset(path.hash_part for path in mentions))


def scan(*pieces: bytes) -> set[str]:
    scanner = MentionScanner()
    for piece in pieces:
        scanner.feed(piece)
    return scanner.hash_parts


def test_a_mention_is_found_across_any_edge() -> None:
    text = f"#!{LIBS.path}/bin/sh\n".encode()
    for edge in range(len(text)):
        assert scan(text[:edge], text[edge:]) == {LIBS.hash_part}
    assert scan(*(text[at : at + 1] for at in range(len(text)))) == {LIBS.hash_part}


def test_a_mention_behind_longer_digits_and_next_to_another_is_found() -> None:
    other = LIBS.hash_part[::-1]
    assert scan(f"zzzz{LIBS.base_name}".encode()) == {LIBS.hash_part}
    assert scan(f"{LIBS.hash_part}-{other}-".encode()) == {LIBS.hash_part, other}


def test_what_lacks_the_dash_or_has_foreign_letters_is_no_mention() -> None:
    assert scan(LIBS.hash_part.encode()) == set()
    assert scan(LIBS.base_name.replace("0", "e", 1).encode()) == set()
    assert scan(LIBS.base_name.upper().encode()) == set()


@given(st.lists(st.sampled_from([b"-", b"x", b"7" * 16, b"\0", b"e", LIBS.base_name.encode()]), max_size=12), st.data())
def test_edges_never_change_what_is_found(parts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(parts)
    edge = data.draw(st.integers(0, len(text)))
    assert scan(text[:edge], text[edge:]) == scan(text)


def test_a_tree_that_mentions_nobody_is_named_after_its_nar_alone() -> None:
    lone = survey("lone")
    assert name_trees([lone]) == [Named(make_source_path("lone", lone.nar_hash))]


def test_names_follow_along_a_chain_in_whatever_order_it_is_given() -> None:
    first = survey("first", LIBS)
    first_path = make_source_path("first", first.nar_hash, [LIBS])
    second = survey("second", first_path)
    second_path = make_source_path("second", second.nar_hash, [first_path])
    third = survey("third", second_path, first_path)
    named = name_trees([third, second, first], known=[LIBS])
    assert [one.path for one in named[1:]] == [second_path, first_path]
    assert named[0].references == tuple(sorted([first_path, second_path]))
    assert named[2].references == (LIBS,)


def test_digits_that_belong_to_no_candidate_are_no_reference() -> None:
    [named] = name_trees([survey("tool", LIBS)])
    assert named.references == ()


def test_a_name_that_was_only_provisional_is_not_referred_to() -> None:
    base = survey("base", LIBS)
    provisional = make_source_path("base", base.nar_hash)
    user = survey("user", provisional)
    named = name_trees([base, user], known=[LIBS])
    assert named[0].path != provisional
    assert named[1].references == ()


def test_references_come_first_and_loops_to_oneself_are_harmless() -> None:
    a, b, c = (make_source_path(name, bytes(32)) for name in "abc")
    order = references_first({a: [a, b, LIBS], b: [c, b], c: []})
    assert order == [c, b, a]


def test_a_chain_deeper_than_the_stack_is_ordered() -> None:
    chain = [make_source_path(f"p{number}", bytes(32)) for number in range(3000)]
    order = references_first({path: chain[number + 1 : number + 2] for number, path in enumerate(chain)})
    assert order == chain[::-1]
