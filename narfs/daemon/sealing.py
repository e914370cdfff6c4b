"""``narfs seal``: the paths, key and lakes of one run, opened for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from narfs.daemon.event_loop import most_telling
from narfs.daemon.pushing import read_key
from narfs.daemon.selection import PathName
from narfs.engine.store import open_store, open_workers
from narfs.engine.trust import TrustPolicy
from narfs.errors import NarfsError, UsageError
from narfs.lake.settings import LakeSettings
from narfs.lake.several import for_each
from narfs.lake.upstreams import open_lakes
from narfs.publish.sealer import SealedPath, SealReport, seal_lake
from narfs.publish.shard import WHOLE, Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from narfs.daemon.config import Config
    from narfs.engine.means import Described
    from narfs.engine.store import Store
    from narfs.publish.progress import Progress


_ASK_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRequest:
    """What is sealed, as it was typed. ``to`` gets copies, ``index_to`` indexes alone; neither: sealed in place."""

    arguments: tuple[str, ...]
    everything: bool
    closure: bool
    to: str | None
    index_to: str | None
    shard: str | None
    secret_key_file: Path


async def run_seal(config: Config, request: SealRequest, progress: Callable[[Progress], None]) -> SealReport:
    """Seal what the one store of ``config`` has; narinfos are asked for anew, for the kept ones may not tell of it."""
    if len(config.store) != 1:
        raise UsageError("give the one store to be sealed with --store")
    if request.everything == bool(request.arguments):
        raise UsageError("give store paths, or --all")
    if request.to is not None and request.index_to is not None:
        raise UsageError("--to copies NARs with their indexes, --index-to writes indexes alone: give one of them")
    key = read_key(request.secret_key_file)
    shard = WHOLE if request.shard is None else Shard.parse(request.shard)
    settings = LakeSettings(
        stall_deadline_s=config.stall_deadline_s, netrc_file=config.netrc_file, ssl_cert_file=config.ssl_cert_file
    )
    trust = TrustPolicy(config.trusted_public_keys)
    written_urls = [url for url in (request.to, request.index_to) if url is not None]
    try:
        async with (
            open_lakes(config.store, settings, patient=True) as lakes,
            open_lakes(written_urls, settings, patient=True) as written,
            open_workers(1) as workers,
            open_store(lakes, None, trust, workers) as store,
        ):
            names = [PathName.parse(argument) for argument in request.arguments]
            if request.everything:
                names = [PathName(hash_part) for hash_part in await lakes.lakes[0].hash_parts() if shard.has(hash_part)]
                await lakes.lakes[0].info()  # an empty place may be no lake
            members, failed = await _describe(store, names, closure=request.closure)
            target = written.lakes[0] if written.lakes else None
            report = await seal_lake(
                [member for part, member in members.items() if shard.has(part)],
                key,
                to=target if request.to is not None else None,
                index_to=target if request.index_to is not None else None,
                shard=shard,
                progress=progress,
            )
            return SealReport((*(one for part, one in failed.items() if shard.has(part)), *report.paths))
    except BaseExceptionGroup as group:
        raise most_telling(group) from group


async def _describe(
    store: Store, names: Iterable[PathName], *, closure: bool
) -> tuple[dict[str, Described], dict[str, SealedPath]]:
    """Describe ``names``, and all they refer to if ``closure``, by hash part; and say what could not be described."""
    members: dict[str, Described] = {}
    failed: dict[str, SealedPath] = {}
    todo = {name.hash_part: name for name in names}

    async def describe(name: PathName) -> None:
        try:
            by_path = name.path and store.describe(name.path)
            members[name.hash_part] = await (by_path or store.describe_by_hash(name.hash_part))
        except NarfsError as error:
            told = name.hash_part if name.path is None else name.path.path
            failed[name.hash_part] = SealedPath(told, "failed", 0, str(error))

    while todo:
        await for_each(todo.values(), describe, at_once=_ASK_AT_ONCE)
        references = {path for part in todo if closure and part in members for path in members[part].narinfo.references}
        known = members.keys() | failed.keys()
        todo = {path.hash_part: PathName(path.hash_part, path) for path in references if path.hash_part not in known}
    return members, failed
