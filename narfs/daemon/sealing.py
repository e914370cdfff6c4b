"""``narfs seal``: the paths, key and lakes of one run, opened for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from narfs.daemon.event_loop import most_telling
from narfs.daemon.pushing import read_key
from narfs.daemon.selection import PathName
from narfs.engine.closure import describe_all
from narfs.engine.store import open_store
from narfs.engine.trust import TrustPolicy
from narfs.errors import NarfsError, UsageError
from narfs.lake.settings import LakeSettings
from narfs.lake.upstreams import open_lakes
from narfs.publish.parcel import for_each
from narfs.publish.sealer import SealedPath, seal_lake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from narfs.daemon.config import Config
    from narfs.engine.means import Described
    from narfs.engine.store import Store
    from narfs.lake.binary_cache import BinaryCache
    from narfs.publish.parcel import Progress


_ASK_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SealRequest:
    """What is sealed, as it was typed; ``target`` is the lake that gets the copies, None: sealed in place."""

    arguments: tuple[str, ...]
    everything: bool
    closure: bool
    target: str | None
    secret_key_file: Path


async def run_seal(config: Config, request: SealRequest, progress: Callable[[Progress], None]) -> list[SealedPath]:
    """Seal what the one store of ``config`` has; narinfos are asked for anew, for the kept ones may not tell of it."""
    if len(config.store) != 1:
        raise UsageError("give the one store to be sealed with --store")
    if request.everything == bool(request.arguments):
        raise UsageError("give store paths, or --all")
    key = read_key(request.secret_key_file)
    settings = LakeSettings(
        stall_deadline_s=config.stall_deadline_s, netrc_file=config.netrc_file, ssl_cert_file=config.ssl_cert_file
    )
    trust = TrustPolicy(config.trusted_public_keys)
    targets = [] if request.target is None else [request.target]
    try:
        async with (
            open_lakes(config.store, settings) as lakes,
            open_lakes(targets, settings) as to,
            open_store(lakes, None, trust, worker_count=1) as store,
        ):
            members, failed = await _members(store, lakes.lakes[0], request)
            target = to.lakes[0] if to.lakes else None
            return failed + await seal_lake(members, key, to=target, progress=progress)
    except BaseExceptionGroup as group:
        raise most_telling(group) from group


async def _members(
    store: Store, lake: BinaryCache, request: SealRequest
) -> tuple[Sequence[Described], list[SealedPath]]:
    """Describe what is to be sealed; of ``--all``, what cannot be described has failed and stops nothing."""
    if not request.everything:
        names = [PathName.parse(argument) for argument in request.arguments]
        paths = [name.path or (await store.describe_by_hash(name.hash_part)).narinfo.path for name in names]
        return await describe_all(store, paths, closure=request.closure, allow_missing=False), []
    members: list[Described] = []
    failed: list[SealedPath] = []

    async def describe(hash_part: str) -> None:
        try:
            members.append(await store.describe_by_hash(hash_part))
        except NarfsError as error:
            failed.append(SealedPath(hash_part, "failed", 0, str(error)))

    await for_each(await lake.hash_parts(), describe, at_once=_ASK_AT_ONCE)
    return members, failed
