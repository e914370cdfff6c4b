from __future__ import annotations

import pytest

from narfs.daemon.sizes import Size, in_words


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("4096", 4096), ("20G", 20 << 30), ("20 GiB", 20 << 30), ("1.5k", 1536), ("2TB", 2 << 40)],
)
def test_amounts_are_read_in_powers_of_1024(text: str, count: int) -> None:
    assert Size.parse(text).of(123) == count


def test_a_share_is_of_the_disk() -> None:
    assert Size.parse("10%").of(2000) == 200


@pytest.mark.parametrize("text", ["", "G", "-1G", "10%G", "101%", "5 apples", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a s"):
        Size.parse(text)


def test_amounts_are_written_for_people() -> None:
    assert [in_words(n) for n in (0, 1023, 1536, 20 << 30, 3 << 40)] == ["0 B", "1023 B", "1.5 KiB", "20 GiB", "3 TiB"]
    assert [in_words(n << 10) for n in (999, 1010, 1023 << 10)] == ["999 KiB", "0.986 MiB", "0.999 GiB"]
