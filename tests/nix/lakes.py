"""What real Nix wrote, for narfs to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

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

    @classmethod
    def build(cls, world: World) -> Self:
        """Let Nix build the closure and make a key to sign it with."""
        public, secret = world.directory / "public-key", world.directory / "secret-key"
        world.run("nix-store", "--generate-binary-cache-key", "test-1", secret, public)
        top = world.build("all")
        paths = world.run("nix-store", "--query", "--requisites", top).split()
        hashes = world.run("nix-store", "--query", "--hash", *paths).split()
        registration = world.directory / "registration"
        registration.write_text(world.run("nix-store", "--dump-db", *paths))
        nar_hashes = {path: text.removeprefix("sha256:") for path, text in zip(paths, hashes, strict=True)}
        return cls(world, top, nar_hashes, public.read_text().strip(), registration)

    @property
    def secret_key(self) -> Path:
        return self.builder.directory / "secret-key"

    def lake(self, compression: str) -> Path:
        """Give the lake with this compression; made when first asked for."""
        directory = self.builder.directory / f"lake-{compression}"
        if not directory.exists():
            url = f"file://{directory}?compression={compression}&secret-key={self.secret_key}&write-nar-listing=1"
            self.builder.run("nix", "copy", "--to", url, self.all)
        return directory
