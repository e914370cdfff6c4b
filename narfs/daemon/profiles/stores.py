"""Profiles in lakes: asked for one, and given one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from narfs.daemon.event_loop import most_telling
from narfs.errors import NarfsError, NotFound
from narfs.formats.profile_object import read_profile, write_profile
from narfs.lake.settings import LakeSettings
from narfs.lake.upstreams import open_lakes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from narfs.daemon.config import Config
    from narfs.daemon.session import Session
    from narfs.formats.profile import Profile
    from narfs.formats.signature import SecretKey

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 4.0
"""What comes later comes too late for a start."""


async def ask_for_profile(session: Session, name: str) -> Profile | None:
    """Give what the profile store has of that name, signed by an index key; None if nothing that counts."""
    if (lake := session.profile_store) is None:
        return None
    keys = None if lake.url.trusted else session.config.trusted_index_keys
    try:
        with trio.fail_after(_PATIENCE_S):
            data = await lake.profile(name)
            return (await trio.to_thread.run_sync(read_profile, data, name, keys))[1]  # 40 ms for the largest
    except NotFound:
        log.debug("profile %s: %s has none", name, lake.url)
    except trio.TooSlowError:
        log.warning("profile %s: %s gave none within %g s", name, lake.url, _PATIENCE_S)
    except NarfsError as error:
        log.warning("profile %s: %s: %s", name, lake.url, error)
    return None


async def push_profile(config: Config, name: str, profile: Profile, target: str, keys: Sequence[SecretKey]) -> None:
    """Write a profile into a lake, signed with all ``keys``."""
    settings = LakeSettings(
        stall_deadline_s=config.stall_deadline_s, netrc_file=config.netrc_file, ssl_cert_file=config.ssl_cert_file
    )
    try:
        async with open_lakes([target], settings) as lakes:
            await lakes.lakes[0].info()
            await lakes.lakes[0].put_profile(name, write_profile(name, profile, keys))
    except BaseExceptionGroup as group:
        raise most_telling(group) from group
