"""Shard: which part of a lake is one machine's work, of several that seal it together. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from narfs.errors import UsageError
from narfs.formats import base32

_TEXT = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """The paths whose hash, as a number, leaves ``number - 1`` when it is divided by ``of``.

    The hash is the beginning of a sha256, so shards are as even as dice, and every machine cuts them alike.
    """

    number: int
    """From 1."""
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/8``; UsageError."""
        match = _TEXT.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise UsageError(f"{text}: is no shard: the second of eight is 2/8")
        return cls(int(match[1]), int(match[2]))

    def has(self, hash_part: str) -> bool:
        """Whether the store path with this hash part is in it."""
        digest = base32.decode(hash_part, what="store path")
        return int.from_bytes(digest, "little") % self.of == self.number - 1


WHOLE: Final = Shard(1, 1)
