"""What was read of a View, as far as the kernel had to ask: what it keeps it reads again without us."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import trio

from narfs.daemon.reports.waste import wasted_bytes
from narfs.engine.accessor import NarAccessor
from narfs.errors import FormatError
from narfs.formats.listing import Kind
from narfs.mount.path_reads import PART_BYTES
from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from narfs.formats.listing import NarListing
    from narfs.lake.account import Account, Fetched
    from narfs.mount.path_reads import PathReads
    from narfs.mount.reads import Miss
    from narfs.mount.scene import Scene
    from narfs.mount.view import Attachment

State = Literal["read", "unread", "shared", "empty"]
"""``shared``: another path has the same NAR, and its files are read there; ``empty``: no file in it has contents."""

_SLICE_S: Final = 0.001
"""A report of 100 000 files takes 0.5 s, in which others read."""

_RUN: Final = re.compile("1+")


@dataclass(frozen=True, slots=True)
class PathReport:
    """One store path. Fetched and wasted are bytes of its blob; all else is of the NAR."""

    path: str
    state: State
    nar_bytes: int
    files: int | None
    """None: its tree is not known."""
    opened_files: int
    """Distinct ones; with EROFS, which does not tell, those of which something was asked for."""
    read_bytes: int
    """What the kernel asked for, also what it asked for twice."""
    distinct_bytes: int
    """In parts of 16 KiB."""
    waits: int
    waited_s: float
    fetched_requests: int
    fetched_bytes: int
    wasted_bytes: int
    """Fetched for this View, and not read through it."""
    same_nar_as: str | None


@dataclass(frozen=True, slots=True)
class MissReport:
    """What a program waited for: bytes of a file; ``file`` is None if it was the tree."""

    at_s: float
    """Since the View began."""
    waited_s: float
    path: str
    file: str | None
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Report:
    """All paths of a View, and sums."""

    name: str
    age_s: float
    paths: tuple[PathReport, ...]
    read_paths: int
    unread_paths: int
    nar_bytes: int
    unread_nar_bytes: int
    """Of paths that were never read."""
    opened_files: int
    read_bytes: int
    distinct_bytes: int
    waits: int
    waited_s: float
    """Of all who waited; two at once count twice."""
    fetched_requests: int
    """What it asked the stores, and was the first to ask."""
    fetched_bytes: int
    """Also descriptions and indexes, which are of no path."""
    wasted_bytes: int
    misses: tuple[MissReport, ...]
    """Waits of 1 ms and more, by when they ended."""
    left_out: int
    """What was too much to be told apart; sums have it all the same."""


async def report(name: str, scene: Scene, account: Account | None) -> Report:
    """Count; a checkpoint now and then."""
    scene.reads.settle()
    counting = _Counting(scene, {} if account is None else account.fetched)
    paths = [await counting.path(attachment) for attachment in scene.view.attachments]
    misses = [await counting.miss(miss) for miss in scene.reads.misses()]
    read = sum(1 for path in paths if path.state == "read")
    unread = [path for path in paths if path.state == "unread"]
    return Report(
        name=name,
        age_s=round(trio.current_time() - scene.reads.began, 3),
        paths=tuple(paths),
        read_paths=read,
        unread_paths=len(unread),
        nar_bytes=sum(path.nar_bytes for path in paths),
        unread_nar_bytes=sum(path.nar_bytes for path in unread),
        opened_files=sum(path.opened_files for path in paths),
        read_bytes=sum(path.read_bytes for path in paths),
        distinct_bytes=sum(path.distinct_bytes for path in paths),
        waits=sum(path.waits for path in paths),
        waited_s=round(sum(path.waited_s for path in paths), 6),
        fetched_requests=0 if account is None else account.requests,
        fetched_bytes=0 if account is None else account.received_bytes,
        wasted_bytes=sum(path.wasted_bytes for path in paths),
        misses=tuple(misses),
        left_out=scene.reads.left_out,
    )


class _Counting:
    """One report on its way."""

    def __init__(self, scene: Scene, fetched: dict[str, Fetched]) -> None:
        self._reads = scene.reads
        self._fetched = fetched
        self._first: dict[tuple[bytes, int], Attachment] = {}
        for attachment in scene.view.attachments:
            self._first.setdefault((attachment.accessor.key, attachment.accessor.nar_size), attachment)
        self._names: dict[tuple[Attachment, int], str] = {}
        self._until = trio.current_time() + _SLICE_S

    async def path(self, attachment: Attachment) -> PathReport:
        accessor = attachment.accessor
        reads, listing = self._reads.of(attachment), accessor.listing
        first = self._first[accessor.key, accessor.nar_size]
        fetched = self._fetched.get(attachment.path.hash_part)
        await self._pause()
        return PathReport(
            path=attachment.path.path,
            state=_state(reads, listing, shared=first is not attachment),
            nar_bytes=accessor.nar_size,
            files=None if listing is None else listing.count_files(),
            opened_files=reads.opened_files,
            read_bytes=reads.asked_bytes,
            distinct_bytes=reads.distinct_bytes,
            waits=reads.waits,
            waited_s=round(reads.waited_s, 6),
            fetched_requests=0 if fetched is None else fetched.requests,
            fetched_bytes=0 if fetched is None else fetched.received_bytes,
            wasted_bytes=0 if fetched is None else await self._wasted(attachment, fetched),
            same_nar_as=None if first is attachment else first.path.path,
        )

    async def miss(self, miss: Miss) -> MissReport:
        await self._pause()
        return MissReport(
            at_s=round(miss.at_s, 6),
            waited_s=round(miss.waited_s, 6),
            path=miss.attachment.path.path,
            file=None if miss.node is None else self._name(miss.attachment, miss.node),
            start=miss.start,
            length=miss.length,
        )

    async def _wasted(self, attachment: Attachment, fetched: Fetched) -> int:
        accessor = attachment.accessor
        if not isinstance(accessor, NarAccessor) or (index := accessor.index) is None:
            return 0  # nobody can tell: no index of it came to be
        read: list[NarSpan] = []
        try:
            for file in self._reads.of(attachment).files():
                await self._pause()
                contents = index.listing.node(file.node).nar_offset
                read += (
                    NarSpan(NarOffset(contents + start), NarOffset(contents + end))
                    for start, end in _runs(file.parts, file.size)
                )
        except FormatError:
            return 0
        return wasted_bytes(index, accessor.narinfo.compression, fetched.spans(), read)

    def _name(self, attachment: Attachment, node: int) -> str:
        """Give the path of a file inside its store path; bytes that are no UTF-8 become lone surrogates."""
        key = (attachment, node)
        if (name := self._names.get(key)) is None:
            listing = attachment.accessor.listing
            try:
                name = "" if listing is None else os.fsdecode(listing.path_of(node))
            except FormatError:  # who reads it is told
                name = f"node {node}"
            self._names[key] = name
        return name

    async def _pause(self) -> None:
        if trio.current_time() >= self._until:
            await trio.lowlevel.checkpoint()
            self._until = trio.current_time() + _SLICE_S


def _state(reads: PathReads, listing: NarListing | None, *, shared: bool) -> State:
    if reads.opened_files:
        return "read"
    if shared:
        return "shared"
    return "unread" if listing is None or _has_contents(listing) else "empty"


def _has_contents(listing: NarListing) -> bool:
    """Say whether any file has; mostly the first one does."""
    try:
        nodes = range(len(listing)) if listing.count_files() else ()
        return any(listing.kind(node) is Kind.REGULAR and listing.node(node).size for node in nodes)
    except FormatError:  # who reads it is told
        return True


def _runs(parts: bytes, size: int) -> Iterable[tuple[int, int]]:
    """Give the runs of parts that were read, as bytes of the file."""
    bits = f"{int.from_bytes(parts, 'little'):b}"[::-1]
    return ((run.start() * PART_BYTES, min(run.end() * PART_BYTES, size)) for run in _RUN.finditer(bits))
