"""Push: files of this machine into a lake, as compressed NARs with listings and signed narinfos (``sending``).

With a key they are sealed (docs/lake-format.md): the index says that whoever has the key saw the whole NAR, as the
signature of the narinfo does. Blobs of several paths are made and sent at the same time.

A tree is read twice, since its name in the store follows from its NarHash and from what it mentions: once to name it,
once to compress it, and the second time only if the lake does not have the path already. A path of a Nix store has a
name and is read once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from narfs.errors import NotFound, UsageError
from narfs.formats.cache_info import CacheInfo
from narfs.formats.compression import ZSTD_LEVEL, encoder
from narfs.formats.digest import Hash
from narfs.formats.narinfo import NarInfo
from narfs.lake.several import for_each
from narfs.publish.nix_store import ValidPath
from narfs.publish.packing import Parcel
from narfs.publish.progress import Meter
from narfs.publish.references import MentionScanner, Survey, name_trees, references_first
from narfs.publish.sending import feed_local
from narfs.publish.shipment import Load, ship

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence
    from pathlib import Path

    from narfs.formats.signature import SecretKey
    from narfs.formats.store_path import StorePath
    from narfs.lake.binary_cache import BinaryCache
    from narfs.publish.progress import Progress
    from narfs.publish.references import Named

_ASK_AT_ONCE = 32
"""Narinfo requests in flight; the transport has its own bound, this one is on tasks."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A file or directory that becomes a content-addressed source path called ``name``."""

    name: str
    root: Path


@dataclass(frozen=True, slots=True)
class StoreObject:
    """A store path that has its name already, and where its files are."""

    info: ValidPath
    root: Path


Source = Tree | StoreObject


@dataclass(frozen=True, slots=True)
class PushedPath:
    """One path of the report. ``file_size`` is the blob's, 0 where there is none yet or the lake does not say."""

    path: StorePath
    status: Literal["sent", "present", "would send"]
    nar_size: int
    file_size: int
    vouched_for: bool
    """Signed, or content-addressed so that the NarHash proves it; a path that is neither nobody will trust."""


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did, references first; ``roots`` are the sources' store paths in the order given."""

    roots: tuple[StorePath, ...]
    paths: tuple[PushedPath, ...]


async def push(
    target: BinaryCache,
    sources: Sequence[Source],
    *,
    key: SecretKey | None = None,
    compression: str = "zstd",
    level: int = ZSTD_LEVEL,
    references: Sequence[StorePath] = (),
    progress: Callable[[Progress], None] = lambda _: None,
    dry_run: bool = False,
) -> PushReport:
    """Bring ``sources`` into the lake and tell what was done; what the lake has already is not sent again.

    ``references`` are store paths in the lake that trees may mention besides each other. UsageError, before anything is
    written: something cannot be read, or refers to what is neither pushed nor in the lake. A later failure leaves the
    lake valid, with those paths whose narinfo was written.
    """
    encoder(compression)  # UsageError if it is one that narfs does not write
    objects = await _name(sources, references, Meter(progress, None))
    by_path = {one.info.path: one for one in objects}
    order = references_first({path: one.info.references for path, one in by_path.items()})
    outside = {reference for one in objects for reference in one.info.references} - by_path.keys()
    is_lake = await target.has_info()
    present = await _present(target, [*order, *outside]) if is_lake else {}
    loads = [_load(by_path[path], key, compression, level) for path in order if path not in present]
    narinfos = [load.parcel.narinfo for load in loads]
    valid = present.keys() | by_path.keys()
    for narinfo in narinfos:
        _refuse_dangling(narinfo, valid)
    described = present | {narinfo.path: narinfo for narinfo in narinfos}
    if not dry_run and loads:
        if not is_lake:
            await target.put_info(CacheInfo(want_mass_query=True))
        total_bytes = sum(narinfo.nar_size for narinfo in narinfos)
        described |= await ship(target, loads, level, Meter(progress, total_bytes, passes=2))
    status: Literal["sent", "would send"] = "would send" if dry_run else "sent"
    return PushReport(
        roots=tuple(one.info.path for one in objects),
        paths=tuple(
            _report(described[path], "present", signed=False)
            if path in present
            else _report(described[path], status, signed=key is not None)
            for path in order
        ),
    )


def _load(source: StoreObject, key: SecretKey | None, compression: str, level: int) -> Load:
    info = source.info
    narinfo = NarInfo(
        path=info.path,
        url="nar/",  # not yet known
        compression=compression,
        nar_hash=info.nar_hash,
        nar_size=info.nar_size,
        references=info.references,
        deriver=info.deriver,
        signatures=info.signatures,
        ca=info.ca,
    )
    accusation = f"{source.root}: changed while it was pushed, or is damaged"
    index_key = key if compression == "zstd" else None
    return Load(source.root, Parcel(narinfo, accusation, level, key, index_key))


async def _name(sources: Sequence[Source], references: Sequence[StorePath], meter: Meter) -> list[StoreObject]:
    """Survey the trees, then give every source its store path, in the order given."""
    trees = [source for source in sources if isinstance(source, Tree)]
    surveys = [await _survey(tree, meter.subject(tree.name)) for tree in trees]
    known = [*references, *(source.info.path for source in sources if isinstance(source, StoreObject))]
    named = iter(zip(trees, surveys, name_trees(surveys, known), strict=True))
    return [source if isinstance(source, StoreObject) else _store_object(*next(named)) for source in sources]


async def _survey(tree: Tree, advance: Callable[[int], None]) -> Survey:
    digest, scanner, size = hashlib.sha256(), MentionScanner(), 0

    def feed(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        digest.update(piece)
        scanner.feed(piece)

    await feed_local(tree.root, feed, advance)
    return Survey(tree.name, digest.digest(), size, frozenset(scanner.hash_parts))


def _store_object(tree: Tree, survey: Survey, named: Named) -> StoreObject:
    ca = f"fixed:r:{Hash('sha256', survey.nar_hash).nix32}"
    info = ValidPath(named.path, survey.nar_hash, survey.nar_size, named.references, None, (), ca)
    return StoreObject(info, tree.root)


async def _present(target: BinaryCache, paths: Iterable[StorePath]) -> dict[StorePath, NarInfo]:
    """Ask the lake which of ``paths`` it has."""
    present: dict[StorePath, NarInfo] = {}

    async def ask(path: StorePath) -> None:
        try:
            present[path] = await target.narinfo(path.hash_part)
        except NotFound:
            return

    await for_each(paths, ask, at_once=_ASK_AT_ONCE)
    return present


def _refuse_dangling(narinfo: NarInfo, valid: Container[StorePath]) -> None:
    missing = [reference.path for reference in narinfo.references if reference not in valid]
    if missing:
        raise UsageError(
            f"{narinfo.path} refers to {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''}, which the "
            "lake does not have: push the closure (--closure) or that path first"
        )


def _report(narinfo: NarInfo, status: Literal["sent", "present", "would send"], *, signed: bool) -> PushedPath:
    return PushedPath(
        path=narinfo.path,
        status=status,
        nar_size=narinfo.nar_size,
        file_size=narinfo.file_size or 0,
        vouched_for=signed or bool(narinfo.signatures) or narinfo.content_address_matches(),
    )
