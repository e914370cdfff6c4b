"""Listings of model trees, and asking one everything at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from narfs.formats.nar import NarIndexer
from tests.support.trees import Tree, dump

if TYPE_CHECKING:
    from narfs.formats.listing import NarListing


def listing_of(tree: Tree) -> NarListing:
    nar = dump(tree)
    indexer = NarIndexer(len(nar))
    indexer.feed(nar)
    return indexer.finish()


def ask_everything(listing: NarListing) -> None:
    """Call every method with every node."""
    for node in range(len(listing)):
        listing.node(node)
        listing.kind(node)
        listing.target(node)
        listing.path_of(node)
        listing.child(node, b"m")
        for child in listing.children(node):
            listing.name(child)
    for path, _ in listing.walk():
        listing.find(path)
