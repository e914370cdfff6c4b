"""A daemon's inside without a mount: household, sessions, two stores and some that lie."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import trio

from narfs.daemon.config import Config
from narfs.daemon.session import Household, open_household
from narfs.daemon.views.sessions import Sessions
from narfs.formats.signature import PublicKeys
from tests.support.lakes import Lake
from tests.support.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from narfs.daemon.session import Session


@dataclass(frozen=True, slots=True)
class Place:
    """A daemon's inside: ``common`` is its own configuration, with ``lake``; ``private`` asks for a login."""

    directory: Path
    lake: Lake
    private: Lake
    server: Server
    household: Household
    sessions: Sessions
    common: Config

    def netrc(self, login: str, name: str = "netrc") -> Path:
        file = self.directory / name
        user, password = login.split(":")
        file.write_text(f"machine 127.0.0.1 login {user} password {password}\n")
        return file

    def evil(self, name: str = "evil") -> Lake:
        """Make a store that claims to have what the others have, and has none of it."""
        lake = Lake(self.directory / name, key_name=f"{name}-1", priority=1)
        for other in (self.lake, self.private):
            for file in other.directory.glob("*.narinfo"):
                (lake.directory / file.name).write_bytes(file.read_bytes())
        return lake

    def config(self, *stores: str, netrc: Path | None = None, index_keys: str = "") -> Config:
        return replace(self.common, store=stores, netrc_file=netrc, trusted_index_keys=PublicKeys.parse(index_keys))

    @asynccontextmanager
    async def session(self, config: Config) -> AsyncIterator[Session]:
        session = await self.sessions.take(config, self.common)
        try:
            yield session
        finally:
            self.sessions.give_back(session)


@pytest.fixture
async def place(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Place]:
    lake, private = Lake(tmp_path / "lake"), Lake(tmp_path / "private", key_name="private-1")
    server: Server = await nursery.start(serve, private.directory)
    server.login = "me:right"
    common = Config(
        cache_dir=tmp_path / "cache",
        store=(lake.url,),
        trusted_public_keys=PublicKeys((lake.secret_key.public, private.secret_key.public)),
    )
    async with open_household(common, if_held="refuse") as household, trio.open_nursery() as work:
        yield Place(tmp_path, lake, private, server, household, Sessions(household, work), common)
        work.cancel_scope.cancel()
