"""Images of Views: parts that were just made are not made again, wherever the cache has got with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from narfs.cache.lots import Lots
from narfs.daemon.erofs.image import write_image
from narfs.daemon.session import Household
from narfs.engine.store import open_workers
from narfs.mount.view import View
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import ODD_TREE, File

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_view_of_the_same_paths_at_once_makes_no_part_again(tmp_path: Path) -> None:
    members = [(path("odd"), MemoryAccessor(ODD_TREE)), (path("file"), MemoryAccessor({b"a": File(b"a")}))]
    lots = Lots(None)
    async with open_workers(1) as workers:
        ranges, new = await write_image(View.of(members), Household(None, None, workers, lots), tmp_path / "one", {})
    fresh = {part.key: part for part in new}
    closed = Household(None, None, workers, lots)  # its workers are gone: they could make nothing
    again, nothing_new = await write_image(View.of(members), closed, tmp_path / "two", fresh)
    assert {part.nar_key for part in new} == {accessor.key for _, accessor in members}
    assert [each[:2] for each in again] == [each[:2] for each in ranges]
    assert nothing_new == []
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()
