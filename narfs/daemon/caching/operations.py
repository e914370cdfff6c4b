"""What a control socket offers of the cache.

What takes long is asked for in steps of a second, again and again until one says that it was the last. So no work goes
on that nobody waits for any more, no answer comes late, and whoever asks can show how far it is.
"""

from __future__ import annotations

import logging
import os
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from narfs.cache.audit import Cursor
from narfs.daemon.caching.pinning import keep_pins
from narfs.daemon.selection import PathName
from narfs.daemon.status import as_json
from narfs.errors import CacheUnusable, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from narfs.cache.catalog_file import Contents
    from narfs.cache.chunk_cache import ChunkCache
    from narfs.daemon.caching.pinning import Pinning
    from narfs.daemon.session import Session

log = logging.getLogger(__name__)

Operations: TypeAlias = "Mapping[str, Callable[[Mapping[str, Any]], Awaitable[object]]]"

_STEP_S: Final = 1.0


def operations(cache: ChunkCache, pinning: Pinning) -> Operations:
    """Give what is offered by name."""

    async def status(_: Mapping[str, Any]) -> object:
        try:
            contents: Contents | None = await cache.catalog.contents()
        except CacheUnusable:  # it is asked how it goes just when its disk is in trouble
            contents = None
        return {
            "directory": str(cache.directory),
            "pid": os.getpid(),
            "nars": None if contents is None else contents.nars,
            "narinfos": None if contents is None else contents.narinfos,
            "pins": as_json(pinning.facts()),
            **asdict(cache.statistics()),
        }

    async def verify(arguments: Mapping[str, Any]) -> object:
        findings, cursor = await cache.audit().step(_cursor(arguments), _STEP_S)
        for flaw in findings.dropped:
            log.info("cache %s: dropped: %s: %s", cache.directory, *flaw)
        return {
            "next": cursor,
            "used_bytes": cache.catalog.used_bytes,
            **asdict(findings),
            "dropped": [flaw._asdict() for flaw in findings.dropped],
            "left": [flaw._asdict() for flaw in findings.left],
        }

    async def shrink(arguments: Mapping[str, Any]) -> object:
        before = cache.statistics().evicted_bytes
        done = await cache.shrink(_number(arguments, "to_bytes"), _STEP_S)
        return {
            "done": done,
            "evicted_bytes": cache.statistics().evicted_bytes - before,
            "used_bytes": cache.catalog.used_bytes,
        }

    async def pin(arguments: Mapping[str, Any]) -> object:
        return as_json(await pinning.pin(_path(arguments)))

    async def unpin(arguments: Mapping[str, Any]) -> object:
        await pinning.unpin(_path(arguments))
        return None

    return {
        "cache-status": status,
        "cache-verify": verify,
        "cache-shrink": shrink,
        "cache-pin": pin,
        "cache-unpin": unpin,
    }


def _path(arguments: Mapping[str, Any]) -> PathName:
    path = arguments.get("path")
    if not isinstance(path, str):
        raise UsageError("path: expected a store path")
    return PathName.parse(path)


@asynccontextmanager
async def offered_by(session: Session) -> AsyncIterator[Operations]:
    """Give what a session's own cache, if it has one, is asked for; what is pinned there is kept complete meanwhile."""
    if session.cache is None:
        yield {}
        return
    async with keep_pins(session.cache, session) as pinning:
        yield operations(session.cache, pinning)


def _cursor(arguments: Mapping[str, Any]) -> Cursor | None:
    match arguments.get("from"):
        case None:
            return None
        case [str() as name, int() as chunk]:
            return Cursor(name, chunk)
    raise UsageError("from: expected what the step before gave as next")


def _number(arguments: Mapping[str, Any], name: str) -> int:
    number = arguments.get(name)
    if not isinstance(number, int) or number < 0:
        raise UsageError(f"{name}: expected a number of bytes")
    return number
