"""Status: what a mount process answers when it is asked how it goes. Every number that a room counts has its name here.

The rooms give frozen values; here they are joined with what the process was told, and derived where two of them say
more together. JSON has the same names.
"""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from narfs import __version__
from narfs.daemon.config import Frontend
from narfs.lake.index_stores import IndexStoresStatistics
from narfs.lake.store_url import StoreUrl
from narfs.lake.upstreams import UpstreamsStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from narfs.cache.chunk_cache import CacheStatistics
    from narfs.daemon.config import Config
    from narfs.daemon.serving import Task
    from narfs.daemon.session import Household, Session
    from narfs.engine.store import StoreStatistics
    from narfs.mount.statistics import MountStatistics
    from narfs.mount.view import View


@dataclass(frozen=True, slots=True)
class Serves:
    """What a process was told to serve; two that were told the same answer the same."""

    stores: tuple[str, ...]
    trusted_public_keys: tuple[str, ...]
    trusted_index_keys: tuple[str, ...]
    verify: str


@dataclass(frozen=True, slots=True)
class Mount:
    """One mountpoint and its View."""

    mountpoint: str
    label: str
    pid: int
    version: str
    uptime_s: float
    closed: bool
    paths: int
    """Attached so far; of a closed View all."""
    verified_paths: int
    """Those whose NAR was compared with its NarHash, or whose sealed index with a key that counts."""
    frontend: str
    cache_dir: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The few numbers a person asks for, made of those below."""

    fetched_bytes: int
    fetched_requests: int
    served_bytes: int
    served_reads: int
    hit_ratio: float | None
    """Of the reads that reached the cache; None before the first. What the kernel answers by itself is not in it."""
    in_flight: int
    """Requests of programs that wait, and requests to lakes under way."""
    errors: int
    """Failed answers other than "there is no such file"."""


@dataclass(frozen=True, slots=True)
class Status:
    """Everything, by room; ``cache`` is None when there is none, ``requests`` before the mount is usable."""

    mount: Mount
    serves: Serves
    summary: Summary
    requests: MountStatistics | None
    engine: StoreStatistics
    cache: CacheStatistics | None
    lakes: UpstreamsStatistics
    """Each lake's own counts under its URL in ``lakes.lakes``."""
    index_stores: IndexStoresStatistics
    """The same of those that are only asked for sealed indexes."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process with many Views."""

    pid: int
    version: str
    uptime_s: float
    tasks: int
    """Of the event loop: some for each View, and one for each answer that is waited for."""
    cache_dir: str | None


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """What Views with the same stores and keys share."""

    serves: Serves
    engine: StoreStatistics
    lakes: UpstreamsStatistics
    index_stores: IndexStoresStatistics


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """Everything of a daemon; ``views`` are their facts."""

    daemon: Daemon
    summary: Summary
    views: tuple[Mapping[str, object], ...]
    requests: MountStatistics
    sessions: tuple[SessionStatus, ...]
    cache: CacheStatistics | None


def serves(config: Config) -> dict[str, object]:
    """Give the JSON form of what a process with this configuration serves."""
    told: dict[str, object] = as_json(_serves(config))
    return told


def take(
    task: Task, session: Session, view: View, counts: Sequence[Callable[[], MountStatistics]], *, started: float
) -> Status:
    """Ask every room."""
    requests = counts[0]() if counts else None
    cache = None if session.cache is None else session.cache.statistics()
    lakes, index_stores = session.lakes.statistics(), session.index_stores.statistics()
    verified = sum(1 for attachment in view.attachments if attachment.accessor.listing is not None)
    mount = Mount(
        mountpoint=str(task.mountpoint),
        label=task.label,
        pid=os.getpid(),
        version=__version__,
        uptime_s=round(time.time() - started, 3),
        closed=view.closed,
        paths=len(view.attachments),
        verified_paths=verified,
        frontend=(Frontend.EROFS if session.config.frontend is Frontend.EROFS else Frontend.TREE).value,
        cache_dir=None if session.cache is None else str(session.config.cache_dir),
    )
    return Status(
        mount=mount,
        serves=_serves(session.config),
        summary=summarize(requests, cache, [lakes, index_stores]),
        requests=requests,
        engine=session.store.statistics(),
        cache=cache,
        lakes=lakes,
        index_stores=index_stores,
    )


def take_daemon(
    household: Household,
    requests: MountStatistics,
    views: Iterable[Mapping[str, object]],
    sessions: Iterable[Session],
    *,
    cache_dir: Path,
    started: float,
) -> DaemonStatus:
    """Ask every room of a daemon."""
    asked = [
        SessionStatus(
            _serves(one.config), one.store.statistics(), one.lakes.statistics(), one.index_stores.statistics()
        )
        for one in sessions
    ]
    cache = None if household.cache is None else household.cache.statistics()
    return DaemonStatus(
        daemon=Daemon(
            pid=os.getpid(),
            version=__version__,
            uptime_s=round(time.time() - started, 3),
            tasks=trio.lowlevel.current_statistics().tasks_living,
            cache_dir=None if cache is None else str(cache_dir),
        ),
        summary=summarize(requests, cache, [lakes for one in asked for lakes in (one.lakes, one.index_stores)]),
        views=tuple(views),
        requests=requests,
        sessions=tuple(asked),
        cache=cache,
    )


def summarize(
    requests: MountStatistics | None,
    cache: CacheStatistics | None,
    lakes: Iterable[UpstreamsStatistics | IndexStoresStatistics],
) -> Summary:
    """Derive what people ask for."""
    transports = [transport for each in lakes for _, transport in each.lakes]
    looked_up = 0 if cache is None else cache.hits + cache.misses
    failures = {} if requests is None else requests.failures
    return Summary(
        fetched_bytes=sum(transport.received_bytes_total for transport in transports),
        fetched_requests=sum(transport.requests_total for transport in transports),
        served_bytes=0 if requests is None else requests.bytes_read,
        served_reads=0 if requests is None else requests.requests.get("read", 0),
        hit_ratio=None if cache is None or not looked_up else round(cache.hits / looked_up, 4),
        in_flight=(0 if requests is None else requests.waiting) + sum(transport.in_flight for transport in transports),
        errors=sum(count for name, count in failures.items() if name not in ("ENOENT", "EROFS")),
    )


def _serves(config: Config) -> Serves:
    return Serves(
        tuple(map(_without_credentials, config.store)),
        tuple(map(str, config.trusted_public_keys)),
        tuple(map(str, config.trusted_index_keys)),
        config.verify.value,
    )


def _without_credentials(store: str) -> str:
    """Write a store's URL in one way, with what narfs understands of its parameters: it is shown, and compared."""
    url = StoreUrl.parse(store)
    parameters = {"priority": url.priority, "trusted": url.trusted or None, "optional": url.optional or None}
    given = [f"{name}={value:d}" for name, value in parameters.items() if value is not None]
    return f"{url}?{'&'.join(given)}" if given else str(url)


def as_json(value: Any) -> Any:
    """Turn frozen values into what JSON can hold, by their field names."""
    if isinstance(value, UpstreamsStatistics | IndexStoresStatistics):
        return {**_fields(value), "lakes": {url: as_json(counts) for url, counts in value.lakes}}
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
