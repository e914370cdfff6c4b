"""The sealed index of a path: fetched, checked, and taken or refused.

Nothing that a lake sends here can do more than make the path be read as if it had no sealed index.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from narfs.errors import NarfsError, Unavailable
from narfs.formats.seal import unseal

if TYPE_CHECKING:
    from narfs.engine.means import Described, Means
    from narfs.formats.index import NarIndex

_log = logging.getLogger(__name__)


async def fetch_index(means: Means, described: Described) -> NarIndex | None:
    """Give the sealed index that the lake has of ``described``; None if it was refused, which is logged here.

    Unavailable: it could not be fetched now.
    """
    narinfo = described.narinfo
    try:
        data = await described.lake.sealed_index(narinfo)
        index = await trio.to_thread.run_sync(unseal, data, narinfo, means.trust.index_keys)
    except Unavailable:
        raise
    except NarfsError as error:
        means.counters.indexes_refused += 1
        _log.warning("%s: %s; the whole NAR is read instead", narinfo.path.base_name, error)
        return None
    means.counters.indexes_taken += 1
    return index
