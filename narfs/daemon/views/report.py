"""What was read of a View, as far as the kernel had to ask: what it keeps it reads again without us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from narfs.lake.account import Account
    from narfs.mount.scene import Scene


@dataclass(frozen=True, slots=True)
class PathReport:
    """One store path: distinct files opened, and bytes asked for; ``nar_bytes`` are those of its whole NAR."""

    path: str
    opened_files: int
    read_bytes: int
    nar_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """All paths of a View, and sums."""

    paths: tuple[PathReport, ...]
    read_paths: int
    unread_paths: int
    opened_files: int
    read_bytes: int
    fetched_requests: int
    """What it asked the stores, and was the first to ask."""
    fetched_bytes: int


def report(scene: Scene, account: Account) -> Report:
    """Count."""
    paths = tuple(
        PathReport(
            path=each.path.path,
            opened_files=(reads := scene.reads.of(each)).opened_files,
            read_bytes=reads.asked_bytes,
            nar_bytes=each.accessor.nar_size,
        )
        for each in scene.view.attachments
    )
    read = sum(1 for path in paths if path.opened_files)
    return Report(
        paths=paths,
        read_paths=read,
        unread_paths=len(paths) - read,
        opened_files=sum(path.opened_files for path in paths),
        read_bytes=sum(path.read_bytes for path in paths),
        fetched_requests=account.requests,
        fetched_bytes=account.received_bytes,
    )
