"""What one View fetched is not there for another that may not see it, and is there for all who may."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from narfs.daemon.config import Config
from narfs.daemon.domains import Domains
from narfs.errors import NarfsError, Unavailable
from narfs.formats.signature import PublicKeys
from tests.engine.conftest import NO_KEYS, read_tree
from tests.support.lakes import Lake, Recipe
from tests.support.trees import File, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon.conftest import Place

TREE: Tree = {b"secret": File(b"not for everybody\n" * 1000)}
BUILT = Recipe(content_addressed=False)


async def test_only_who_shows_the_credentials_of_a_lake_sees_what_was_fetched_with_them(place: Place) -> None:
    member = place.private.add("private", TREE, BUILT)
    own = place.config(place.server.url, netrc=place.netrc("me:right"))
    strangers = [
        place.config(place.server.url),
        place.config(place.server.url, netrc=place.netrc("me:wrong", "wrong")),
        place.config(place.server.url.replace("//", "//you:wrong@")),
    ]
    async with place.session(own) as session:
        assert await read_tree(await session.store.find(member.path)) == TREE
        for config in strangers:
            async with place.session(config) as other:
                with pytest.raises(Unavailable):
                    await other.store.describe(member.path)
        # Nor when only the narinfo is known, with what was kept of it.
        described = await session.store.describe(member.path)
        place.server.login = None
        for config in strangers:
            async with place.session(config) as other:
                place.server.log.clear()
                accessor = await other.store.accessor(replace(described, lake=other.lakes.lakes[0]))
                assert (accessor.root, accessor.listing) == (None, None)
                assert await read_tree(accessor) == TREE
                assert place.server.asked("/nar/*")


async def test_who_shows_the_same_credentials_shares_what_was_fetched(place: Place) -> None:
    member = place.private.add("private", TREE, BUILT)
    async with place.session(place.config(place.server.url, netrc=place.netrc("me:right"))) as session:
        await read_tree(await session.store.find(member.path))
    place.server.log.clear()
    async with place.session(place.config(place.server.url, netrc=place.netrc("me:right", "again"))) as session:
        assert await read_tree(await session.store.find(member.path)) == TREE
    assert not place.server.log


async def test_a_netrc_file_that_was_written_anew_is_another_view_s(place: Place) -> None:
    member = place.private.add("private", TREE, BUILT)
    netrc = place.netrc("me:right")
    async with place.session(place.config(place.server.url, netrc=netrc)) as session:
        await read_tree(await session.store.find(member.path))
        place.netrc("me:wrong")
        async with place.session(place.config(place.server.url, netrc=netrc)) as other:
            assert other is not session
            with pytest.raises(Unavailable):
                await other.store.find(member.path)


async def test_a_store_that_has_only_a_narinfo_gives_nothing_of_what_others_have_fetched(place: Place) -> None:
    members = [place.lake.add("common", TREE, BUILT), place.private.add("private", {b"file": File(b"x")}, BUILT)]
    own = place.config(place.lake.url, place.server.url, netrc=place.netrc("me:right"))
    evil = place.evil()
    async with place.session(own) as session:
        for member in members:
            assert await read_tree(await session.store.find(member.path)) == member.tree
        async with place.session(place.config(evil.url)) as other:
            for member in members:
                accessor = await other.store.find(member.path)
                assert (accessor.root, accessor.listing) == (None, None)
                for ask in (accessor.peek, accessor.settle):
                    with pytest.raises(NarfsError, match="but not its NAR"):
                        await ask()


async def test_what_another_store_gave_for_a_lying_one_is_not_there_for_those_who_have_only_that(place: Place) -> None:
    member = place.private.add("private", TREE, BUILT)
    evil = place.evil()
    victim = place.config(evil.url, place.server.url, netrc=place.netrc("me:right"))
    async with place.session(victim) as session:
        described = await session.store.describe(member.path)
        assert str(described.lake.url) == evil.url  # it is asked first
        accessor = await session.store.accessor(described)
        assert await read_tree(accessor) == TREE
        async with place.session(place.config(evil.url)) as other:
            with pytest.raises(NarfsError, match="but not its NAR"):
                await (await other.store.find(member.path)).settle()


async def test_what_a_common_store_should_have_and_has_not_does_not_come_from_somebody_s_own(place: Place) -> None:
    member = place.lake.add("common", TREE, BUILT)
    place.private.add("common", TREE, BUILT)
    place.lake.blob_file(member).unlink()
    own = place.config(place.lake.url, place.server.url, netrc=place.netrc("me:right"))
    async with place.session(own) as session:
        described = await session.store.describe(member.path)
        assert described.domain == b""
        with pytest.raises(NarfsError, match="but not its NAR"):
            await (await session.store.accessor(described)).settle()


async def test_views_share_what_comes_from_the_daemon_s_own_stores(place: Place) -> None:
    member = place.lake.add("common", TREE, BUILT)
    async with place.session(place.common) as session:
        await read_tree(await session.store.find(member.path))
    own = place.config(place.server.url, f"{place.lake.url}?priority=1", netrc=place.netrc("me:right"))
    async with place.session(own) as session:
        assert await read_tree(await session.store.find(member.path)) == TREE
        assert session.lakes.lakes[1].statistics().requests_total == 0


def test_domains(tmp_path: Path) -> None:
    def domains(*stores: str, common: Config, index_keys: PublicKeys = NO_KEYS) -> tuple[bytes, ...]:
        return Domains.of(replace(common, store=stores, trusted_index_keys=index_keys), common).domains

    common = Config(cache_dir=tmp_path, store=("https://one.example", "s3://bucket?region=eu-1", "/two"))
    none = (b"", b"", b"")
    assert domains(*common.store, common=common) == none
    assert domains("https://one.example/?priority=3&trusted=1", "/two/", common=common) == (b"", b"")
    for other in ("https://me:x@one.example", "http://one.example", "s3://bucket?region=eu-1&profile=me", "/three"):
        (domain,) = domains(other, common=common)
        assert len(domain) == 32
        # A store stands in for another: so those of one View are in one domain, with all that can.
        mixed = domains("/two", other, common=common)
        assert mixed[0] == b""
        assert mixed[1] not in (b"", domain)
        assert mixed == domains(other, "/two", common=common)[::-1]
    # Who holds an index key says what the parts of a NAR are.
    keys = PublicKeys((Lake(tmp_path / "lake").secret_key.public,))
    assert b"" not in domains(*common.store, common=common, index_keys=keys)
    assert domains(*common.store, common=replace(common, trusted_index_keys=keys), index_keys=keys) == none
