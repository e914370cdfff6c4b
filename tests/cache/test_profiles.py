"""Profiles in the cache directory: bounded, replaced whole, and of any process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from narfs.cache import profiles as module
from narfs.cache.profiles import Profiles
from narfs.errors import CacheUnusable, NotFound, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Profiles:
    return Profiles(tmp_path / "cache")


def age(tmp_path: Path, name: str, seconds: int) -> None:
    os.utime(tmp_path / "cache/profile" / f"{name}.profile", (seconds, seconds))


def test_what_is_kept_is_there_until_it_is_removed(kept: Profiles, tmp_path: Path) -> None:
    assert kept.all() == []
    kept.keep("a", b"one")
    kept.keep("a", b"two")
    kept.keep("b+c", b"")
    assert kept.load("a") == b"two"
    assert {(one.name, one.size) for one in kept.all()} == {("a", 3), ("b+c", 0)}
    assert {file.name for file in (tmp_path / "cache/profile").iterdir()} == {"a.profile", "b+c.profile"}
    kept.remove("a")
    for gone in (kept.load, kept.remove):
        with pytest.raises(NotFound, match="no profile named a"):
            gone("a")


def test_only_their_owner_may_look_at_them(kept: Profiles, tmp_path: Path) -> None:
    kept.keep("a", b"one")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "cache").rglob("*")} == {0}


@pytest.mark.parametrize(("most", "most_bytes"), [(3, 1000), (1000, 30)])
def test_those_that_changed_longest_ago_make_room(
    kept: Profiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, most_bytes: int
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", most)
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", most_bytes)
    for number, name in enumerate("abc"):
        kept.keep(name, bytes(10))
        age(tmp_path, name, 1000 + number)
    age(tmp_path, "a", 2000)
    kept.keep("d", bytes(10))
    assert [one.name for one in kept.all()] == ["d", "a", "c"]


def test_files_of_other_names_are_let_be(kept: Profiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 1)
    kept.keep("a", b"one")
    strange = tmp_path / "cache/profile/of mine.profile"
    strange.write_bytes(b"")
    os.utime(strange, (0, 0))
    kept.keep("b", b"two")
    assert [one.name for one in kept.all()] == ["b"]
    assert strange.exists()


def test_a_name_never_leads_out_of_the_directory(kept: Profiles) -> None:
    for do in (kept.load, kept.remove):
        with pytest.raises(UsageError):
            do("../../etc/passwd")


def test_a_disk_that_fails_is_told_by_name(kept: Profiles, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(CacheUnusable, match="profile"):
        kept.keep("a", b"one")
    for do in (kept.all, lambda: kept.load("a"), lambda: kept.remove("a")):
        with pytest.raises((CacheUnusable, NotFound)):
            do()
