"""Domains: which Views may find in the cache what others have fetched.

Rule 1: the daemon's own stores, with its own credentials, are everybody's whose View has them: their domain is empty.
Rule 2: all other stores of a View have one domain, which Views share that have the same stores with the same
credentials. It is made of all stores of the View, because one store stands in for another: what comes from a store that
failed is kept with what it would have given.
Rule 3: a View with index keys of its own has no store in common with the daemon. Who holds an index key says what the
parts of a NAR are, and nobody shall believe him who does not trust that key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from narfs.lake.identity import identity_of, joined
from narfs.lake.store_url import StoreUrl

if TYPE_CHECKING:
    from narfs.daemon.config import Config


@dataclass(frozen=True, slots=True)
class Domains:
    """Of the stores of a Config, in its order. They follow from the ``identities``: those of index stores come last."""

    identities: tuple[bytes, ...]
    domains: tuple[bytes, ...]

    @classmethod
    def of(cls, config: Config, common: Config) -> Domains:
        """Compare a View's Config with the daemon's own. Blocks for the netrc files; UsageError."""
        found = identities(config)
        own = found if config == common else identities(common)
        shared = own[: len(common.store)] if config.trusted_index_keys == common.trusted_index_keys else ()
        apart = joined((*sorted(found), *(str(key).encode() for key in config.trusted_index_keys)))
        return cls(found, tuple(b"" if each in shared else apart for each in found[: len(config.store)]))


def identities(config: Config) -> tuple[bytes, ...]:
    """Tell the stores of a Config from all others."""
    settings = config.lake_settings
    return tuple(
        identity_of(StoreUrl.parse(store), settings, os.environ) for store in (*config.store, *config.index_stores)
    )
