"""A shipment: all parcels of a push on their way into a lake, packed on all cores while others are being sent.

Packing is bound by cores and sending by latency, so they have bounds of their own. Small paths travel in batches: a
hop to a packing process costs as much as packing a path of some KiB. What a path waits for was begun before it, so it
is never behind it in the queue: there is no deadlock.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from narfs.lake.several import for_each
from narfs.publish.packers import MAX_PROCESSES, open_packers
from narfs.publish.sealing import frame_press
from narfs.publish.sending import feed_local, publish, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from narfs.formats.narinfo import NarInfo
    from narfs.formats.store_path import StorePath
    from narfs.lake.binary_cache import BinaryCache
    from narfs.publish.packers import Packers
    from narfs.publish.packing import Parcel
    from narfs.publish.progress import Meter
    from narfs.publish.sealing import FramePress

_IN_FLIGHT = 12
"""Batches and large paths being packed or sent: some MiB of memory each (over S3 24), so no more whatever the cores."""
_SMALL_BYTES = 1024 * 1024
"""NARs up to this size travel in batches, of so many bytes in all."""
_BATCH_PATHS = 32
_BATCHES_WORTH_A_PROCESS = 4
"""Starting a process takes as long as packing so many batches."""
_PACKING = min(os.cpu_count() or 1, MAX_PROCESSES)
"""Packed at once: a large path's frames are compressed by as many threads as there are processors."""


class Load(NamedTuple):
    """A parcel and where its files are."""

    root: Path
    parcel: Parcel


async def ship(target: BinaryCache, loads: Sequence[Load], level: int, meter: Meter) -> dict[StorePath, NarInfo]:
    """Pack and send all, references first in ``loads``; ``meter`` is told every byte twice."""
    batches = list(_batches(loads))
    small = sum(_is_small(batch[0]) for batch in batches)
    count = min(_PACKING, small // _BATCHES_WORTH_A_PROCESS)
    with open_packers(level, count) as packers, frame_press(level) as press:
        shipment = _Shipment(target, loads, packers, press, meter)
        await for_each(batches, shipment.ship, at_once=_IN_FLIGHT)
    return shipment.sent


class _Shipment:
    def __init__(
        self, target: BinaryCache, loads: Sequence[Load], packers: Packers, press: FramePress, meter: Meter
    ) -> None:
        self._target = target
        self._packers = packers
        self._press = press
        self._meter = meter
        self._packing = trio.Semaphore(_PACKING)
        self._published = {load.parcel.narinfo.path: trio.Event() for load in loads}
        self.sent: dict[StorePath, NarInfo] = {}

    async def ship(self, batch: Sequence[Load]) -> None:
        """Pack and send one batch."""
        if _is_small(batch[0]):
            async with self._packing:
                crates = await self._packers.pack([(root, parcel) for root, parcel in batch])
            for _, parcel in batch:
                self._meter.subject(parcel.narinfo.path.name)(parcel.narinfo.nar_size)
            await self._announce(await send(self._target, crates, self._meter))
            return
        [(root, parcel)] = batch
        narinfo = await publish(
            self._target,
            parcel,
            partial(feed_local, root),
            press=self._press,
            packing=self._packing,
            advance=self._meter.subject(parcel.narinfo.path.name),
        )
        await self._announce([narinfo])

    async def _announce(self, narinfos: Sequence[NarInfo]) -> None:
        """Write narinfos, each when those that it refers to are there."""
        waiting = [*narinfos]
        while waiting:
            ready = [narinfo for narinfo in waiting if not self._awaited(narinfo)]
            if not ready:
                # The first refers to none of the others here, so this is one of another batch, begun before this one.
                await self._published[self._awaited(waiting[0])[0]].wait()
                continue
            await self._target.put_narinfos(ready)
            for narinfo in ready:
                self.sent[narinfo.path] = narinfo
                self._published[narinfo.path].set()
            waiting = [narinfo for narinfo in waiting if narinfo.path not in self.sent]

    def _awaited(self, narinfo: NarInfo) -> list[StorePath]:
        unwritten = (path for path in narinfo.references if path in self._published and path not in self.sent)
        return [path for path in unwritten if path != narinfo.path]


def _is_small(load: Load) -> bool:
    return load.parcel.narinfo.nar_size <= _SMALL_BYTES


def _batches(loads: Sequence[Load]) -> Iterator[list[Load]]:
    """Cut into batches of small paths and single large ones, in order."""
    batch: list[Load] = []
    size = 0
    for load in loads:
        nar_size = load.parcel.narinfo.nar_size
        if batch and (size + nar_size > _SMALL_BYTES or len(batch) == _BATCH_PATHS):
            yield batch
            batch, size = [], 0
        batch.append(load)
        size += nar_size
    if batch:
        yield batch
