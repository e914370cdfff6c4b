"""What real Nix wrote, for narfs to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from tests.nix.world import World

COMPRESSIONS = ("none", "xz", "bzip2", "gzip", "zstd", "br", "lz4")
"""All that Nix 2.8 writes and narfs reads."""


class Lakes(NamedTuple):
    """A closure that real Nix built, and lakes that real Nix wrote of it."""

    builder: World
    all: str
    """The store path that refers, in the end, to all others."""
    nar_hashes: dict[str, str]
    """Of every path of the closure, in nix32."""
    key: str
    registration: Path

    def lake(self, compression: str) -> Path:
        """Give the lake with this compression; made when first asked for."""
        directory = self.builder.directory / f"lake-{compression}"
        if not directory.exists():
            secret = self.builder.directory / "secret-key"
            url = f"file://{directory}?compression={compression}&secret-key={secret}&write-nar-listing=1"
            self.builder.run("nix", "copy", "--to", url, self.all)
        return directory
