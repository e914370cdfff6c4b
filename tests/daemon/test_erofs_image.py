"""Images of Views: parts that were just made are not made again, wherever the cache has got with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from narfs.cache.lots import Lots
from narfs.daemon.erofs.image import foresee, write_image
from narfs.daemon.erofs.new_parts import NewParts
from narfs.daemon.session import Household
from narfs.engine.store import open_workers
from narfs.errors import FormatError
from narfs.formats.listing import NarListing
from narfs.mount.view import View
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import ODD_TREE, File, Tree

if TYPE_CHECKING:
    from pathlib import Path

LARGE: Tree = {b"%04d" % number: File(b"x") for number in range(3000)}


def members() -> list[tuple[Any, Any]]:
    """Give paths whose parts take more than one batch, two of them with the same NAR."""
    trees: tuple[Tree, ...] = (ODD_TREE, {b"a": File(b"a")}, LARGE, ODD_TREE)
    return [(path(f"path-{number}"), MemoryAccessor(tree)) for number, tree in enumerate(trees)]


async def test_a_view_of_the_same_paths_at_once_makes_no_part_again(tmp_path: Path, nursery: trio.Nursery) -> None:
    lots = Lots(None)
    async with open_workers(1) as workers:
        household = Household(None, None, workers, lots)
        new_parts = NewParts(household, nursery)
        laid = await write_image(View.of(members()), household, tmp_path / "one", new_parts)
    # From here its workers are gone: they could make nothing.
    again = await write_image(View.of(members()), household, tmp_path / "two", new_parts)
    assert [each[:2] for each in again] == [each[:2] for each in laid]
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


async def test_parts_that_were_foreseen_are_those_of_the_image(tmp_path: Path, nursery: trio.Nursery) -> None:
    lots, others = Lots(None), Lots(None)
    async with open_workers(1) as workers:
        household = Household(None, None, workers, lots)
        new_parts = NewParts(household, nursery)
        for _, accessor in members():
            foresee(accessor, lots, new_parts)
        await write_image(View.of(members()), household, tmp_path / "one", new_parts)
        unforeseen = Household(None, None, workers, others)
        await write_image(View.of(members()), unforeseen, tmp_path / "two", NewParts(unforeseen, nursery))
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


async def test_what_is_worth_a_batch_is_made_before_anybody_waits_for_it(nursery: trio.Nursery) -> None:
    async with open_workers(1) as workers:
        household = Household(None, None, workers, Lots(None))
        new_parts = NewParts(household, nursery)
        for _, accessor in members():
            foresee(accessor, household.lots, new_parts)
        [*_, (_, flight)] = new_parts._flights.values()
        with trio.fail_after(60):
            assert len(await flight.result()) == 3


async def test_a_worker_that_dies_over_a_batch_costs_no_image_anything(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with open_workers(1) as workers:
        household = Household(None, None, workers, Lots(None))
        new_parts = NewParts(household, nursery)
        for _, accessor in members():
            foresee(accessor, household.lots, new_parts)
        await trio.testing.wait_all_tasks_blocked()
        workers._processes[0].give_up()
        await write_image(View.of(members()), household, tmp_path / "image", new_parts)


async def test_a_tree_that_cannot_be_laid_out_fails_its_own_view_only(tmp_path: Path, nursery: trio.Nursery) -> None:
    liar = MemoryAccessor({b"liar": LARGE})
    assert liar.listing is not None
    nodes, names, children = liar.listing.buffers
    liar.listing = NarListing(nodes, names, memoryview(bytes(len(children))))
    async with open_workers(1) as workers:
        household = Household(None, None, workers, Lots(None))
        new_parts = NewParts(household, nursery)
        for accessor in (MemoryAccessor({b"small": File(b"x")}), liar):
            foresee(accessor, household.lots, new_parts)
        assert len(new_parts._flights) == 2, "they are made together"
        honest = View.of([(path("honest"), MemoryAccessor({b"small": File(b"x")}))])
        await write_image(honest, household, tmp_path / "honest", new_parts)
        with pytest.raises(FormatError, match="children of its own"):
            await write_image(View.of([(path("liar"), liar)]), household, tmp_path / "liar", new_parts)
