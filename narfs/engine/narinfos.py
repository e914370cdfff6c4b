"""Trusted narinfos: asked of the lakes, kept in the catalog, and recalled from there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from narfs.engine.means import Described
from narfs.errors import FormatError, Untrusted
from narfs.formats.narinfo import NarInfo

if TYPE_CHECKING:
    from narfs.engine.means import Means
    from narfs.formats.signature import PublicKey
    from narfs.lake.binary_cache import BinaryCache


async def ask(means: Means, hash_part: str) -> Described:
    """Ask the lakes, and keep what they say; NotFound, Untrusted, Unavailable."""
    signer: PublicKey | None = None

    def accept(lake: BinaryCache, narinfo: NarInfo) -> bool:
        nonlocal signer
        signer = _signer(means, lake, narinfo, None)
        return means.trust.accepts(lake, narinfo, signer)

    try:
        described = Described(*await means.upstreams.narinfo(hash_part, accept))
    except Untrusted:
        means.counters.untrusted += 1
        raise
    means.described[hash_part] = described
    if means.cache is not None:
        name, text = described.lake.keeps_as, described.narinfo.to_bytes()
        means.cache.catalog.keep_narinfo(name, hash_part, text, time.time(), signer)
    return described


def recall(means: Means, hash_part: str) -> Described | None:
    """Find a narinfo in the catalog.

    Its signature is checked again unless the key that made it is known and counts here: these may be other keys.
    """
    if means.cache is None:
        return None
    for lake in means.upstreams.lakes:
        if (stored := means.cache.catalog.narinfo(lake.keeps_as, hash_part)) is None:
            continue
        try:
            narinfo = NarInfo.parse(stored.text, expect=hash_part)
        except FormatError:
            continue
        signer = _signer(means, lake, narinfo, stored.voucher)
        if means.trust.accepts(lake, narinfo, signer):
            if signer not in (None, stored.voucher):
                means.cache.catalog.keep_narinfo(lake.keeps_as, hash_part, stored.text, stored.time, signer)
            return Described(lake, narinfo, kept=True)
    return None


def _signer(means: Means, lake: BinaryCache, narinfo: NarInfo, known: PublicKey | None) -> PublicKey | None:
    return None if lake.url.trusted else means.trust.signer(narinfo, known)
