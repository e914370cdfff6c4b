"""Under which name what is read of a View is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from narfs.daemon.profiles.naming import name_of_builds, name_of_members
from narfs.formats.profile import is_profile_name
from tests.support.lakes import Lake

if TYPE_CHECKING:
    from pathlib import Path

HASH = "0" * 32


def test_a_build_is_called_like_its_derivation_without_hash_and_version() -> None:
    assert name_of_builds([f"{HASH}-hello-2.12.1.drv"]) == "hello.drv"
    assert name_of_builds(["hello-2.13.drv"]) == "hello.drv"
    assert name_of_builds([f"{HASH}-b-1.drv", f"{HASH}-a-1.drv", f"{HASH}-a-2.drv"]) == "a.drv+b.drv"


def test_what_makes_no_name_makes_no_profile() -> None:
    assert name_of_builds([]) is None
    assert name_of_builds(["my build.drv"]) is None


def test_anything_else_is_called_like_the_packages_at_its_top(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    low = lake.add("openssl-3.0.14", {b"a": {}}).narinfo
    own = replace(low, references=(low.path,))
    top = lake.add("curl-8.1-bin", {b"b": {}}, references=[low.path]).narinfo
    other = lake.add("auto", {b"c": {}}).narinfo
    assert name_of_members([low, top]) == "curl-bin"
    assert name_of_members([own]) == "openssl"
    assert name_of_members([low, top, other]) == "auto+curl-bin"
    assert name_of_members([other]) is None
    assert name_of_members([]) is None


def test_many_packages_have_a_name_that_is_no_longer_than_others() -> None:
    names = {name_of_builds([f"package-{'x' * number}.drv" for number in range(size)]) for size in range(1, 99)}
    assert len(names) == 98
    assert all(name is not None and len(name) <= 100 and is_profile_name(name) for name in names)
