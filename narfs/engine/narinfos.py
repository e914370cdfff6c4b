"""Trusted narinfos: asked of the lakes, kept in the catalog, and recalled from there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from narfs.engine.means import Described
from narfs.errors import FormatError, Untrusted
from narfs.formats.narinfo import NarInfo

if TYPE_CHECKING:
    from narfs.engine.means import Means


async def ask(means: Means, hash_part: str) -> Described:
    """Ask the lakes, and keep what they say; NotFound, Untrusted, Unavailable."""
    try:
        described = Described(*await means.upstreams.narinfo(hash_part, means.trust.accepts))
    except Untrusted:
        means.counters.untrusted += 1
        raise
    if means.cache is not None:
        name, text = described.lake.keeps_as, described.narinfo.to_bytes()
        means.cache.catalog.keep_narinfo(name, hash_part, text, time.time())
    return described


def recall(means: Means, hash_part: str) -> Described | None:
    """Find a narinfo in the catalog; it is checked again, for the keys may be others than then."""
    if means.cache is None:
        return None
    for lake in means.upstreams.lakes:
        if (stored := means.cache.catalog.narinfo(lake.keeps_as, hash_part)) is None:
            continue
        try:
            narinfo = NarInfo.parse(stored.text, expect=hash_part)
        except FormatError:
            continue
        if means.trust.accepts(lake, narinfo):
            return Described(lake, narinfo, kept=True)
    return None
