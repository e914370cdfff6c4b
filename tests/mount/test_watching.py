"""Who wants to know what is read, while it is read: told of the beginnings of files that somebody wanted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from narfs.mount.view import View
from tests.mount.frontends import FRONTENDS, Mounting
from tests.mount.kernel import needs_fuse, sys_
from tests.mount.model import MemoryAccessor, path
from tests.support.trees import File

if TYPE_CHECKING:
    from pathlib import Path

    from narfs.formats.store_path import StorePath
    from tests.support.trees import Tree

pytestmark = [pytest.mark.mount, needs_fuse]

TEXT = bytes(range(256)) * 1200


class Watcher:
    def __init__(self) -> None:
        self.awaited: list[tuple[StorePath, int]] = []
        self.heard: list[tuple[StorePath, int, bytes]] = []

    def awaits(self, path: StorePath, node: int) -> None:
        assert (path, node) not in {(path, node) for path, node, _ in self.heard}
        self.awaited.append((path, node))

    def saw(self, path: StorePath, node: int, beginning: bytes) -> None:
        self.heard.append((path, node, beginning))


@pytest.mark.parametrize("mounting", FRONTENDS)
async def test_a_watcher_hears_of_each_file_that_is_read_from_its_beginning(mounting: Mounting, tmp_path: Path) -> None:
    tree: Tree = {b"large": File(TEXT), b"other": File(TEXT[1:]), b"unread": File(b"x" * 200_000)}
    accessor = MemoryAccessor(tree, inline=False)
    place = tmp_path / "mnt"
    watcher = Watcher()
    kept = MemoryAccessor({b"kept": File(TEXT)}, inline=False)
    kept.on_disk = True
    async with mounting(View.of([(path("a"), accessor), (path("b"), kept)]), place, watcher=watcher):

        def read() -> None:
            assert (place / path("b").base_name / "kept").read_bytes() == TEXT
            folder = place / path("a").base_name
            with (folder / "other").open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                file.seek(150_000)
                assert file.read(10) == TEXT[150_001:150_011]
            assert (folder / "large").read_bytes() == TEXT

        await sys_(read)
    listing = accessor.listing
    assert listing is not None
    assert kept.listing is not None
    heard = {(path, node) for path, node, _ in watcher.heard}
    assert heard == {(path("a"), listing.find(b"large")), (path("b"), kept.listing.find(b"kept"))}
    assert set(watcher.awaited) == {(path("a"), listing.find(b"large"))}
    for _, _, beginning in watcher.heard:
        assert beginning
        assert TEXT.startswith(beginning)
