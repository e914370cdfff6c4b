"""``narfs registration``: what Nix has to be told of paths it shall find in its store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from narfs.daemon.session import open_session
from narfs.formats.registration import registration

if TYPE_CHECKING:
    from narfs.daemon.config import Config
    from narfs.daemon.selection import Selection


async def registration_of(config: Config, selection: Selection) -> str:
    """Write the registration of ``selection`` by what the stores say; UsageError if it is not closed."""
    async with open_session(config, if_held="uncached") as session:
        return registration(described.narinfo for described in await session.members(selection))
