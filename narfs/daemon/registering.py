"""``narfs registration``: what Nix has to be told of paths it shall find in its store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from narfs.daemon.session import open_session
from narfs.formats.registration import registration

if TYPE_CHECKING:
    from narfs.daemon.config import Config
    from narfs.daemon.known_paths import KnownPaths
    from narfs.daemon.selection import Selection


async def registration_of(config: Config, selection: Selection) -> str:
    """Write the registration of ``selection`` by what the stores say; UsageError if it is not closed."""
    async with open_session(config, if_held="uncached") as session:
        return registration(described.narinfo for described in await session.members(selection))


async def registration_aside(known: KnownPaths) -> str:
    """Write the registration of all that is known while the event loop goes on; UsageError if that cannot be known.

    In a thread, though it keeps the GIL: 10 000 paths take 0.4 s, of which the loop waits for 5 ms at a time.
    """
    return await trio.to_thread.run_sync(registration, known.everything())
