"""What is compared before a competitor is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.sameness import assert_same

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("disk", "shown"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin/program").write_bytes(b"contents")
        (tmp_path / name / "bin/program").chmod(0o755)
        (tmp_path / name / "link").symlink_to("bin/program")
        (tmp_path / name / "nowhere").symlink_to("absent")
    return tmp_path / "shown", tmp_path / "disk"


def test_the_same_is_the_same(trees: tuple[Path, Path]) -> None:
    assert_same(*trees, exact=True)


@pytest.mark.parametrize("exact", [True, False])
def test_other_contents_are_named(trees: tuple[Path, Path], *, exact: bool) -> None:
    shown, disk = trees
    (shown / "bin/program").write_bytes(b"Contents")
    with pytest.raises(RuntimeError, match="bin/program"):
        assert_same(shown, disk, exact=exact)


def test_a_file_in_place_of_its_symlink_is_the_same_only_by_contents(trees: tuple[Path, Path]) -> None:
    shown, disk = trees
    (shown / "link").unlink()
    (shown / "link").write_bytes(b"contents")
    (shown / "nowhere").unlink()
    assert_same(shown, disk, exact=False)
    with pytest.raises(RuntimeError, match="link"):
        assert_same(shown, disk, exact=True)


def test_one_name_too_many_is_noticed(trees: tuple[Path, Path]) -> None:
    shown, disk = trees
    (shown / "extra").touch()
    with pytest.raises(RuntimeError, match="extra"):
        assert_same(shown, disk, exact=True)
