"""How a View is mounted: one frozen value."""

from __future__ import annotations

import os
from dataclasses import dataclass

_ALWAYS = frozenset({"ro", "nosuid", "nodev", "default_permissions", "subtype=narfs"})
"""The kernel refuses every mutation and checks the modes by itself; a NAR has no set-uid and no devices to lose."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """``extra`` are the words of ``-o``, handed to libfuse as they are."""

    allow_other: bool = False
    source: str = "narfs"
    """What tables of mounts name it, unless ``extra`` has an ``fsname``."""
    nonempty: bool = False
    extra: frozenset[str] = frozenset()

    @classmethod
    def for_this_user(cls, source: str = "narfs") -> MountOptions:
        """Root serves everybody; anybody else serves himself, unless /etc/fuse.conf allows more and he asks for it."""
        return cls(allow_other=os.geteuid() == 0, source=source)

    def words(self) -> set[str]:
        """Give what libfuse is told."""
        named = any(word.startswith("fsname=") for word in self.extra)
        return {
            *_ALWAYS,
            *self.extra,
            *(() if named else (f"fsname={self.source}",)),
            *({"allow_other"} if self.allow_other else ()),
        }
