"""A profile brought for one View: what it names is found among the paths, and asked for in its order.

Neighbours in one NAR come in one request, so what is to be brought next is sorted, in windows that grow: the first
bytes must not wait for others, later ones are ahead of the program anyway.

Rule 1. It is wrong when fewer than half of the blocks that programs have read are in it, of JUDGED_BLOCKS at least.
Then nothing more is begun.
Rule 2. What was asked for is at most LEAD_BYTES, or twice what programs have read of it; then it waits for them. So a
program that ends early, or begins like the one before and goes on differently, costs that much and no more.
Rule 3. It finds out how much the way to the lake holds, and waits for no turn meanwhile: the program that starts reads
all the time, and beside a reader twice as many round trips are gone before the way is full (``bring``'s ``trying``).
Rule 4. NARs that the cache has whole are none of its business: nothing of them is looked up, and it is not judged by
what is read of them. To find 12 000 files for nothing took 88 ms while a program read them, half of what erofs took.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import trio

from narfs.engine.ahead.bringing import Want, bring
from narfs.engine.ahead.matching import FoundFile, Named
from narfs.errors import NarfsError
from narfs.offsets import NarOffset, NarSpan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from narfs.engine.accessor import NarAccessor
    from narfs.engine.ahead.bringing import Allowance
    from narfs.formats.profile import Profile, Read
    from narfs.formats.store_path import StorePath

    NewReads = Callable[[], Iterable[tuple[NarAccessor, int, int, bool]]]
    """Gives accessor, node and block of what was read since it was called last, and whether a program wanted it."""

JUDGED_BLOCKS: Final = 32
LEAD_BYTES: Final = 64 * 1024 * 1024
"""Half a second of 1 Gbit/s."""

_FIRST_WINDOW_BYTES: Final = 256 * 1024
_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""32 ms of 1 Gbit/s."""
_LOOK_EVERY_S: Final = (0.05, 1.0)
"""While programs read, and in the end while none does: Views may stand idle for weeks, many at once."""
_FOUND_AT_ONCE: Final = 100
"""Files that are looked up before others get their turn: 1 ms."""

Outcome = Literal["done", "wrong", "allowance", "quota", "cache", "failures"]


class _Step(NamedTuple):
    """What is asked for at once, and the bytes of it that the profile names."""

    want: Want
    named_bytes: int


class Replay:
    """One profile for a View with these members."""

    def __init__(self, profile: Profile, members: Iterable[tuple[StorePath, NarAccessor]], new_reads: NewReads) -> None:
        self.asked_bytes = 0
        """What the profile names of what was asked for."""
        self.read_bytes = 0
        """What programs have read of what the profile names."""
        self._profile = profile
        self._named = Named(members)
        self._new_reads = new_reads
        self._files: dict[tuple[NarAccessor, int], FoundFile] = {}
        self._unknown: dict[NarAccessor, list[Read]] = {}
        """What is named of NARs whose trees are not known before they have passed."""
        self._here: set[NarAccessor] = set()
        """NARs of which nothing is missing."""
        self._steps: list[_Step] = []
        self._asked = 0
        """How many of them were asked for."""
        self._window_bytes = _FIRST_WINDOW_BYTES
        self._read_blocks = self._named_blocks = 0

    @property
    def wrong(self) -> bool:
        """Whether programs read other things."""
        return self._read_blocks >= JUDGED_BLOCKS and 2 * self._named_blocks < self._read_blocks

    @property
    def far_ahead(self) -> bool:
        """Whether enough was asked for."""
        return self.asked_bytes > max(LEAD_BYTES, 2 * self.read_bytes)

    async def run(self, allowance: Allowance) -> Outcome:
        """Bring it, and say what ended that. What fails with single NARs is passed over."""
        await self._find_all()
        while self._asked < len(self._steps):
            brought = await bring(self._wants(), allowance, trying=True)
            if brought.stopped_by is not None:
                return brought.stopped_by
            await self._wait_for_programs()
            if self.wrong:
                return "wrong"
        return "done"

    async def _wait_for_programs(self) -> None:
        often_s, seldom_s = _LOOK_EVERY_S
        rest_s = often_s
        while self.far_ahead and not self.wrong:
            await trio.sleep(rest_s)
            rest_s = often_s if self._look() else min(2 * rest_s, seldom_s)

    async def _find_all(self) -> None:
        """Find what the profile names in trees that are here or sealed; a NAR of another has to pass as a whole."""
        reads = self._profile.reads
        accessors = [self._named.accessor(read.place) for read in reads]
        nars = [nar for nar in dict.fromkeys(accessors) if nar is not None]
        async with trio.open_nursery() as nursery:
            for nar in nars:
                if nar.listing is None:
                    nursery.start_soon(_unseal, nar)
        self._here = {nar for nar in nars if nar.is_here(NarOffset(0), nar.nar_size)}
        for number, (accessor, read) in enumerate(zip(accessors, reads, strict=True)):
            if number % _FOUND_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if accessor is None or accessor in self._here:
                continue
            if accessor.listing is not None:
                self._find(accessor, read)
                continue
            if accessor not in self._unknown:
                whole = NarSpan(NarOffset(0), NarOffset(accessor.nar_size))
                self._steps.append(_Step(Want(accessor, whole), 0))
            self._unknown.setdefault(accessor, []).append(read)

    def _find(self, accessor: NarAccessor, read: Read) -> None:
        if (file := FoundFile.find(accessor, read.place.file)) is not None:
            file = self._files.setdefault((accessor, file.node), file)
            spans = file.name(read.first, read.last)
            self._steps += [_Step(Want(accessor, span), span.length) for span in spans]

    def _wants(self) -> Iterator[Want]:
        """Give what comes next, up to where it has to wait."""
        while self._asked < len(self._steps):
            self._look()
            if self.wrong or self.far_ahead:
                return
            window: list[Want] = []
            end = self.asked_bytes + self._window_bytes
            while self._asked < len(self._steps) and self.asked_bytes < end:
                step = self._steps[self._asked]
                window.append(step.want)
                self._asked += 1
                self.asked_bytes += step.named_bytes
            self._window_bytes = min(2 * self._window_bytes, _WINDOW_BYTES)
            nars = dict.fromkeys(want.accessor for want in window)
            order = {accessor: number for number, accessor in enumerate(nars)}
            yield from sorted(window, key=lambda want: (order[want.accessor], want.span))

    def _look(self) -> bool:
        """See what was read meanwhile; whether anything was."""
        before = self._read_blocks
        for accessor, node, block, wanted in self._new_reads():
            if accessor in self._here:
                continue
            if accessor in self._unknown and accessor.listing is not None:
                for read in self._unknown.pop(accessor):
                    self._find(accessor, read)
            file = self._files.get((accessor, node))
            named_bytes = 0 if file is None else file.bytes_of(block)
            self.read_bytes += named_bytes
            self._named_blocks += named_bytes > 0
            self._read_blocks += wanted or named_bytes > 0  # EROFS also reads what only lies beside it
        return self._read_blocks > before


async def _unseal(accessor: NarAccessor) -> None:
    with suppress(NarfsError):  # the pass will tell
        await accessor.unseal()
