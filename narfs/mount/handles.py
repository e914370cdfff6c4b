"""What the kernel holds open: resolved once, so that nothing is looked up again for each read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.formats.listing import Node
    from narfs.mount.fuse.stage import Top
    from narfs.mount.path_reads import PathReads
    from narfs.mount.view import Attachment

T = TypeVar("T")


class OpenFile:
    """A file, two additions away from its bytes in the NAR.

    ``noted`` when its reads, or that it was opened, are in the record; ``failed_*`` is the read that failed last.
    """

    __slots__ = (
        "accessor",
        "broken_passes",
        "contents",
        "failed_end",
        "failed_errno",
        "failed_start",
        "failed_until",
        "node",
        "noted",
        "reads",
        "size",
    )

    def __init__(self, reads: PathReads, node: Node) -> None:
        self.reads = reads
        self.accessor = reads.attachment.accessor
        self.broken_passes = self.accessor.broken_passes
        self.node = node.id
        self.noted = reads.knows(node.id)
        self.contents = node.nar_offset
        self.size = node.size
        self.failed_until = 0.0
        self.failed_start = self.failed_end = self.failed_errno = 0

    def failed_before(self, offset: int, size: int, now: float) -> bool:
        """Whether this read is a repetition of the one that just failed."""
        return now < self.failed_until and offset < self.failed_end and self.failed_start < offset + size


class OpenDirectory:
    """A directory with its ``.`` and ``..``: a top with its children, or one in a NAR, whose children are node ids."""

    __slots__ = ("attachment", "children", "inode", "parent", "top")

    def __init__(
        self, inode: int, parent: int, top: Top | None, attachment: Attachment | None, children: Sequence[Any]
    ) -> None:
        self.inode = inode
        self.parent = parent
        self.top = top
        self.attachment = attachment
        self.children = children


class Handles(Generic[T]):
    """What is open of one kind, by the number the kernel has for it; numbers are never given twice."""

    def __init__(self) -> None:
        self._last = 0
        self._open: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, value: T) -> int:
        """Keep something until ``release`` of the number given."""
        self._last += 1
        self._open[self._last] = value
        return self._last

    def get(self, handle: int) -> T:
        """Give what was opened."""
        return self._open[handle]

    def release(self, handle: int) -> T:
        """Forget it, and give it back."""
        return self._open.pop(handle)
