"""Parts of EROFS images are the same, whoever makes them."""

from __future__ import annotations

import pytest

from narfs.engine.part_making import PartWanted, make_parts
from narfs.engine.store import open_workers
from narfs.errors import FormatError
from narfs.formats.erofs.part import Layout
from narfs.formats.listing import NarListing
from tests.support.listings import listing_of
from tests.support.trees import ODD_TREE, File, Tree

LARGE: Tree = {b"%050d" % number: File(b"x") for number in range(20_000)}


@pytest.mark.parametrize(
    "trees", [[File(b"x"), {}], [ODD_TREE], [File(b"x"), LARGE, ODD_TREE]], ids=["small", "odd", "several"]
)
@pytest.mark.parametrize("shared_block", [None, 9000])
async def test_a_worker_makes_the_parts_that_layouts_make(trees: list[Tree], shared_block: int | None) -> None:
    listings = [listing_of(tree) for tree in trees]
    wanted = [PartWanted(listing, 5000, 512, shared_block) for listing in listings]
    async with open_workers(1) as workers:
        made = await make_parts(workers, wanted)
    assert made == [Layout(listing).part(5000, 512, shared_block=shared_block) for listing in listings]


async def test_a_listing_that_lies_is_a_format_error_there_too() -> None:
    nodes, names, children = listing_of(LARGE).buffers
    lying = NarListing(nodes, names, memoryview(bytes(len(children))))
    async with open_workers(1) as workers:
        with pytest.raises(FormatError, match="directory"):
            await make_parts(workers, [PartWanted(lying, 5000, 512)])
