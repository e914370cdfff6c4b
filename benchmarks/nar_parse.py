"""How fast do NAR bytes become a listing, on one core? Small files: entries a second; big ones: memory speed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.harness import Report
from narfs.formats.growing import GrowingListing
from narfs.formats.ls import from_ls, to_ls
from narfs.formats.nar import NarIndexer, NarWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Plan

_PIECE_BYTES = 256 * 1024
_FILES_PER_DIRECTORY = 100


def small_files(files: int) -> bytes:
    """Make a NAR like a source tree's: directories of files of 0 to 2 KB and a symlink."""
    writer = NarWriter()
    parts = [writer.enter(b"")]
    for directory in range(files // _FILES_PER_DIRECTORY):
        parts.append(writer.enter(b"directory-%06d" % directory))
        for number in range(_FILES_PER_DIRECTORY):
            size = directory * number * 31 % 2048
            parts += (writer.regular(b"file-%03d.py" % number, number % 9 == 0, size), bytes(size))
        parts += (writer.symlink(b"link", b"../target"), writer.leave())
    return b"".join((*parts, writer.leave(), writer.finish()))


def index(nar: bytes, mirror: GrowingListing | None = None) -> NarIndexer:
    """Feed a whole NAR, and after each piece a mirror, if there is one."""
    indexer = NarIndexer(len(nar))
    for at in range(0, len(nar), _PIECE_BYTES):
        indexer.feed(nar[at : at + _PIECE_BYTES])
        if mirror is not None:
            mirror.apply(indexer.builder.take_delta())
    return indexer


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def run(plan: Plan) -> None:
    """Measure processor time: other processes do not count, so one core is what it says."""
    report = Report("nar_parse", "How fast do NAR bytes become a listing?", plan, piece_bytes=_PIECE_BYTES)
    nar = small_files(plan.size(100_000, 2_000))
    listing = index(nar).finish()
    written = to_ls(listing)
    writer = NarWriter()
    framing, piece = writer.regular(b"", executable=False, size=1 << 33), bytes(1 << 20)

    def pass_big_file() -> None:
        indexer = NarIndexer(1 << 34)
        indexer.feed(framing)
        for _ in range((1 << 33) // len(piece)):
            indexer.feed(piece)

    with report:
        for _ in plan.rounds():
            for subject, work in (
                ("index", lambda: index(nar)),
                ("index and mirror", lambda: index(nar, GrowingListing())),
                ("walk", lambda: sum(1 for _ in listing.walk())),
                ("write .ls", lambda: to_ls(listing)),
                ("read .ls", lambda: from_ls(written)),
            ):
                report.add(subject, "entries", "1/s", len(listing) / _seconds(work))
            report.add("index, one file of 8 GiB", "contents", "GB/s", (1 << 33) / 1e9 / _seconds(pass_big_file))
            report.add("listing", "memory", "B/entry", sum(map(len, listing.buffers)) / len(listing))
