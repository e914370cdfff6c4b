"""Amounts of a disk as people write them: ``20G``, ``1.5TiB``, ``10%``, ``4096``."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:(%)|([KMGTP]?)(?:i?B)?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Size:
    """An amount in bytes, or a share of a disk that is known only later."""

    bytes: int = 0
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``20G`` (units are powers of 1024, case and a trailing ``iB`` do not matter) or ``10%``; ValueError."""
        match = _AMOUNT.fullmatch(text.strip())
        if match is None:
            raise ValueError("a size such as 20G, 500MiB or 10%")
        number, percent, unit = match.groups()
        if percent:
            if float(number) > 100:
                raise ValueError("a share of at most 100%")
            return cls(percent=float(number))
        return cls(bytes=int(float(number) * 1024 ** _UNITS[unit.upper()]))

    def of(self, total_bytes: int) -> int:
        """Give the amount in bytes on a disk of ``total_bytes``."""
        return self.bytes if self.percent is None else int(total_bytes * self.percent / 100)


def in_words(count: int) -> str:
    """Write a number of bytes for people: three digits and a unit."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < (1024 if unit == "B" else 999.5):  # 1000 KiB would be 1e+03
            return f"{count} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"
