"""Names kept as dicts answer as the listing does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from narfs.formats.listing import Kind
from narfs.mount.names import Names
from tests.support.listings import listing_of
from tests.support.trees import File, Tree, names, trees


@given(tree=trees(), absent=st.lists(names(), max_size=3))
def test_every_name_is_found_and_no_other(tree: Tree, absent: list[bytes]) -> None:
    listing, kept = listing_of(tree), Names()
    for _ in range(2):
        for _, directory in listing.walk():
            if listing.kind(directory) is not Kind.DIRECTORY:
                continue
            inode = 1000 + directory
            for name in [listing.name(child) for child in listing.children(directory)] + absent:
                assert kept.child(inode, listing, directory, name) == listing.child(directory, name)


def test_a_large_directory_is_searched_and_not_kept() -> None:
    listing, kept = listing_of({b"%d" % number: File() for number in range(1000)}), Names()
    assert kept.child(1, listing, 0, b"777") == listing.child(0, b"777")
    assert len(kept) == 0
