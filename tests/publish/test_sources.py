from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from narfs.errors import NotFound, UsageError
from narfs.formats.store_path import StorePath, make_source_path
from narfs.publish.nix_store import NixStore, ValidPath
from narfs.publish.push import StoreObject, Tree
from narfs.publish.sources import find_sources

if TYPE_CHECKING:
    from collections.abc import Iterable

LIBS = make_source_path("libs", bytes(32))
TOOL = make_source_path("tool", bytes(32), [LIBS])


class FakeNix(NixStore):
    """A Nix store with TOOL, which refers to LIBS."""

    async def path_info(self, paths: Iterable[StorePath], *, closure: bool) -> list[ValidPath]:
        wanted = list(paths)
        if not set(wanted) <= {TOOL, LIBS}:
            raise NotFound("not a valid path")
        if closure and TOOL in wanted:
            wanted = [LIBS, TOOL]
        return [ValidPath(path, bytes(32), 96, (), None, (), None) for path in wanted]


async def find(*arguments: str, closure: bool = False) -> list[Tree | StoreObject]:
    return await find_sources(arguments, FakeNix("/other"), closure=closure)


async def test_a_file_is_called_like_itself_or_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tool").mkdir()
    assert await find("tool", "better=tool", "./tool/", ".") == [
        Tree("tool", Path("tool")),
        Tree("better", Path("tool")),
        Tree("tool", Path("tool")),
        Tree(tmp_path.name, Path()),
    ]


async def test_a_file_with_an_equals_sign_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a=b").touch()
    assert await find(f"{tmp_path}/a=b") == [Tree("a=b", tmp_path / "a=b")]


async def test_a_name_no_store_path_can_have_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'two words' cannot be a store path's name: give one with NAME=PATH"):
        await find(f"{tmp_path}/two words")


async def test_what_is_in_the_store_is_a_store_path_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "result").symlink_to(f"{TOOL.path}/bin")
    linked = await find(f"{tmp_path}/result")
    named = await find(TOOL.path)
    info = ValidPath(TOOL, bytes(32), 96, (), None, (), None)
    assert linked == named == [StoreObject(info, Path("/other") / TOOL.path[1:])]


async def test_a_closure_brings_its_members_once_and_behind_what_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "tree").touch()
    found = await find(TOOL.path, f"{tmp_path}/tree", closure=True)
    assert [one.name if isinstance(one, Tree) else one.info.path for one in found] == [TOOL, "tree", LIBS]


async def test_another_link_is_pushed_as_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert await find(f"{tmp_path}/link") == [Tree("link", tmp_path / "link")]


async def test_nonsense_in_the_store_directory_is_refused() -> None:
    with pytest.raises(UsageError, match="/nix/store/nonsense"):
        await find("/nix/store/nonsense")


async def test_links_are_followed_until_one_leads_into_the_store(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b/../c")
    (tmp_path / "b").mkdir()
    (tmp_path / "c").symlink_to(TOOL.path)
    (tmp_path / "loop").symlink_to("loop")
    [found, loop] = await find(f"{tmp_path}/./a//", f"{tmp_path}/loop")
    assert isinstance(found, StoreObject)
    assert found.info.path == TOOL
    assert loop == Tree("loop", tmp_path / "loop")
