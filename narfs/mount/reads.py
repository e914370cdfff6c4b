"""What is read of one View: which blocks of which files, in what order and when, and what had to be waited for.

It sees what the kernel asks for. What the kernel keeps it reads again without us, and what it reads ahead looks like
any read. Only EROFS tells more: of a request for several files the first was wanted by somebody, the others came along;
they may have been read from the kernel's pages since.

Reads are noted some at once, a little later: next to the copying of 128 KiB each note by itself would find none of its
data in the processor's caches, and take three times as long. Who asks for anything but ``began`` settles first.

Memory is bounded: 131 072 numbered files and as many first reads, 16 384 misses and the blocks of 1 TiB are told apart,
in 32 MB at most; what comes then is counted for its path, and no more. A build that reads 2 000 files takes 0.3 MB.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVarTuple

from narfs.mount.path_reads import NODES, WANTED_BLOCK, PathReads, blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from narfs.mount.view import Attachment

Ts = TypeVarTuple("Ts")

_MOST_FILES: Final = 1 << 17
_MOST_BLOCKS: Final = 1 << 23
_MOST_FIRST_READS: Final = 1 << 17
_MOST_MISSES: Final = 1 << 14

_AT_ONCE: Final = 16
"""Requests: 0.15 ms of the loop if each is for 32 small files, 0.03 ms else."""

_SHORT_S: Final = 0.001
"""What is waited for less long came from the cache's disk, and is no miss worth telling."""


class FirstRead(NamedTuple):
    """A block that was asked for for the first time; ``wanted`` unless it is known to have come along."""

    at_s: float
    """Since the View began."""
    attachment: Attachment
    node: int
    block: int
    wanted: bool


class Miss(NamedTuple):
    """What somebody waited for: ``length`` bytes of a file from ``start`` on; the tree if ``node`` is None."""

    at_s: float
    """When the wait began, since the View did."""
    attachment: Attachment
    node: int | None
    start: int
    length: int
    waited_s: float


class Reads:
    """What is read of one View from now on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.began = self.now = clock()
        """``now`` is when what is being noted was read."""
        self.left_out = 0
        """Files, first reads and misses that were too many to be told apart."""
        self._paths: dict[Attachment, PathReads] = {}
        self._files = 0
        self._blocks = 0
        self._order = array("d"), array("I"), array("I"), array("I")
        """When; number of the path; number of a file, or a node; block or count of nodes × 4 + which of these."""
        self._misses: list[Miss] = []
        self._waiting: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def of(self, attachment: Attachment) -> PathReads:
        """Give what is read of one path of the View."""
        if (path := self._paths.get(attachment)) is None:
            path = self._paths[attachment] = PathReads(self, len(self._paths), attachment)
        return path

    def later(self, note: Callable[[*Ts], None], *args: *Ts) -> None:
        """Note something with others, as of now."""
        self._waiting.append((self.clock(), note, args))
        if len(self._waiting) >= _AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Note all that was left for later."""
        waiting, self._waiting = self._waiting, []
        for at, note, args in waiting:
            self.now = at
            note(*args)

    @property
    def asked_bytes(self) -> int:
        """What was asked for in all; settles."""
        self.settle()
        return sum(path.asked_bytes for path in self._paths.values())

    @property
    def notes(self) -> int:
        """How many notes of first reads there are; ``first_reads`` begins behind as many as it is told. Settles."""
        self.settle()
        return len(self._order[0])

    def first_reads(self, start: int = 0) -> Iterator[FirstRead]:
        """Give all first reads up to now, in order; 1 µs for each, and more may be noted meanwhile, by the loop too."""
        times, places, firsts, whats = self._order
        end = len(whats)  # what is noted last, and after its path
        paths = list(self._paths.values())
        for each in range(start, end):
            path, what = paths[places[each]], whats[each]
            if what & 3 == NODES:
                for node, size in path.contents(range(firsts[each], firsts[each] + (what >> 2))):
                    for block in range(blocks_of(size)):
                        yield FirstRead(times[each], path.attachment, node, block, wanted=False)
            else:
                wanted = what & 3 == WANTED_BLOCK
                yield FirstRead(times[each], path.attachment, path.node(firsts[each]), what >> 2, wanted)

    def misses(self) -> list[Miss]:
        """Give all misses up to now, in the order in which they ended."""
        return self._misses[:]

    def admit(self, blocks: int) -> bool:
        """Say whether a file of so many blocks may have a number; it is counted then."""
        if self._files >= _MOST_FILES or self._blocks + blocks > _MOST_BLOCKS:
            self.left_out += 1
            return False
        self._files += 1
        self._blocks += blocks
        return True

    def first(self, path: int, first: int, what: int) -> None:
        """Note first reads; a row of ``order``."""
        times, paths, firsts, whats = self._order
        if len(times) >= _MOST_FIRST_READS:
            self.left_out += 1
            return
        times.append(self.now - self.began)
        paths.append(path)
        firsts.append(first)
        whats.append(what)

    def missed(self, attachment: Attachment, node: int | None, span: range, *, began: float, waited_s: float) -> None:
        """Note a wait, unless it was short."""
        if waited_s < _SHORT_S:
            return
        if len(self._misses) < _MOST_MISSES:
            self._misses.append(Miss(began - self.began, attachment, node, span.start, len(span), waited_s))
        else:
            self.left_out += 1
