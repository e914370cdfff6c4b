from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from narfs.daemon.selection import PathName, Selection
from narfs.errors import UsageError
from narfs.formats.store_path import StorePath

if TYPE_CHECKING:
    from pathlib import Path

HASH = "0c6kzph7l0dcbfmjap64f0czdafn3b7x"
PATH = StorePath(f"{HASH}-hello-2.12")


@pytest.mark.parametrize(
    ("text", "below"),
    [
        (PATH.path, ""),
        (f"{PATH.path}/", ""),
        (f"{PATH.path}/bin//hello/", "bin/hello"),
        (f"{PATH.path}/bin/../lib", "lib"),
        (PATH.base_name, ""),
        (f"{PATH.base_name}/bin/hello", "bin/hello"),
    ],
)
def test_a_store_path_is_named_in_full_or_by_its_base_name(text: str, below: str) -> None:
    assert PathName.parse(text) == PathName(HASH, PATH, below)


def test_a_hash_alone_names_a_path_too() -> None:
    assert PathName.parse(HASH) == PathName(HASH)
    assert PathName.parse(f"{HASH}/bin") == PathName(HASH, None, "bin")


def test_result_links_are_read_though_they_dangle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "result").symlink_to(PATH.path)
    (tmp_path / "again").symlink_to("result")
    (tmp_path / "deep").symlink_to("again/bin")
    monkeypatch.chdir(tmp_path)
    for text in ("result", "./result", str(tmp_path / "result"), "again"):
        assert PathName.parse(text) == PathName(HASH, PATH)
    assert PathName.parse("deep/hello") == PathName(HASH, PATH, "bin/hello")


def test_what_names_no_store_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "plain").mkdir()
    for text in ("hello", "/nix/store", "/nix/store/hello", str(tmp_path / "loop"), str(tmp_path / "plain"), ""):
        with pytest.raises(UsageError):
            PathName.parse(text)


def test_a_name_that_leads_out_of_its_path_is_refused() -> None:
    with pytest.raises(UsageError, match="leads out"):
        PathName.parse(f"{PATH.path}/../other")


def test_nothing_selected_is_an_open_view() -> None:
    assert not Selection.of().closed


def test_a_list_has_comments_and_closes_the_view_even_when_empty() -> None:
    selection = Selection.of(lists=[f"# inputs\n\n{PATH.path}\n  {PATH.path}  \n"], closures=[HASH])
    assert selection.closed
    assert selection.paths == (PathName(HASH, PATH),) * 2
    assert selection.closures == (PathName(HASH),)
    assert Selection.of(lists=[""]).closed


@pytest.mark.parametrize("text", ["x" * 300, f"a/{'x' * 300}", "a\0b", "\ud800", "/" + "x/" * 3000])
def test_what_no_file_can_be_called_is_no_path(text: str) -> None:
    with pytest.raises(UsageError, match="neither a store path"):
        PathName.parse(text)
