"""Signatures that were checked are not checked again: where that is right, and every case where it would be wrong."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from narfs.cache import vouched
from narfs.engine.closure import describe_all
from narfs.errors import NotFound
from narfs.formats.signature import SecretKey
from tests.support.lakes import Recipe
from tests.support.trees import File

if TYPE_CHECKING:
    from narfs.engine.store import Store
    from narfs.formats.narinfo import NarInfo
    from narfs.formats.store_path import StorePath
    from tests.engine.conftest import House

OTHER = SecretKey.generate("other.test-1")


async def kept_narinfo(house: House, *also: SecretKey) -> NarInfo:
    """Keep a narinfo that only its signatures can vouch for, and take it out of the lake."""
    narinfo = house.lake.add("built", {b"file": File(b"contents")}, Recipe(content_addressed=False)).narinfo
    for key in also:
        narinfo = narinfo.sign(key)
    house.lake.put(narinfo)
    async with house.open() as store:
        await store.describe(narinfo.path)
    house.lake.narinfo_file(narinfo.path).unlink()
    return narinfo


def lie(narinfo: NarInfo) -> bytes:
    """Say something else of the path, unsigned."""
    return replace(narinfo, nar_size=narinfo.nar_size + 1, signatures=()).to_bytes()


def change(house: House, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(house.cache_directory / "catalog.sqlite", isolation_level=None)) as catalog:
        assert catalog.execute(statement, values).rowcount == 1


def plant(house: House, narinfo: NarInfo) -> None:
    """Do what somebody could who writes into the cache directory of a user while narfs does not run."""
    text, key = lie(narinfo), house.lake.trusted_public_keys.encode()
    change(house, "UPDATE narinfo SET text = ?", text)
    change(house, "UPDATE vouched SET proof = ?", vouched.proof(text, key))


async def counts(store: Store, path: StorePath) -> bool:
    try:
        return (await store.describe(path)).kept
    except NotFound:
        return False


async def test_a_signature_is_checked_once(house: House) -> None:
    narinfo = await kept_narinfo(house)
    change(house, "UPDATE vouched SET key = key")  # it was kept with the narinfo
    plant(house, narinfo)
    async with house.open() as store:
        assert await counts(store, narinfo.path)  # which no check of its signature would have said


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE narinfo SET text = ?", None),
        ("UPDATE vouched SET key = ?", str(OTHER.public)),
        ("UPDATE vouched SET key = ?", b"no text"),
        ("UPDATE vouched SET key = ?", "no key"),
        ("UPDATE vouched SET proof = ?", bytes(32)),
        ("UPDATE vouched SET proof = ?", "no proof"),
    ],
    ids=["another text", "another key", "bytes for a key", "no key", "another proof", "text for a proof"],
)
async def test_what_was_changed_on_disk_is_no_checked_signature(house: House, statement: str, value: Any) -> None:
    narinfo = await kept_narinfo(house)
    if value is not None:
        plant(house, narinfo)
    change(house, statement, lie(narinfo) if value is None else value)
    keys = f"{house.lake.trusted_public_keys} {OTHER.public}"
    async with house.open(keys=keys) as store:
        assert not await counts(store, narinfo.path)


@pytest.mark.parametrize(
    ("rot", "is_wrong"),
    [
        ("UPDATE vouched SET key = CAST(x'ff' || substr(CAST(key AS BLOB), 2) AS TEXT)", True),
        ("UPDATE vouched SET key = CAST(key AS BLOB)", False),
        ("UPDATE vouched SET proof = CAST(proof AS TEXT)", False),
        ("UPDATE narinfo SET text = CAST(text AS TEXT)", False),
        ("UPDATE narinfo SET text = CAST(x'ff' || substr(text, 2) AS TEXT)", True),
        ("UPDATE narinfo SET time = CAST(x'ff' AS TEXT)", False),
    ],
    ids=[
        "a bit of the key",
        "key no text",
        "proof a text",
        "narinfo a text",
        "a bit of the narinfo",
        "a bit of the time",
    ],
)
async def test_one_rotten_bit_is_at_most_a_miss_and_an_audit_finds_it(house: House, rot: str, is_wrong: bool) -> None:
    narinfo = await kept_narinfo(house)
    house.lake.put(narinfo)
    change(house, rot)
    async with house.open() as store:
        assert store.means.cache is not None
        (described,) = await describe_all(store, [narinfo.path], closure=True, allow_missing=False)
        assert described.narinfo == narinfo
    change(house, rot)  # what was found wrong was kept anew
    async with house.open() as store:
        assert bool(await audited(store)) is is_wrong
        assert await audited(store) == []
        assert (await store.describe(narinfo.path)).narinfo == narinfo


async def test_what_another_version_found_is_found_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    narinfo = await kept_narinfo(house)
    with monkeypatch.context() as older:
        older.setattr(vouched, "_DOMAIN", b"narfs 0.0.1 found signed")
        plant(house, narinfo)
    async with house.open() as store:
        assert not await counts(store, narinfo.path)


async def test_a_key_counts_only_for_who_trusts_it(house: House) -> None:
    narinfo = await kept_narinfo(house)
    same_name = SecretKey.generate(house.lake.secret_key.name).public
    for keys in ("", str(OTHER.public), str(same_name), f"{same_name} {house.lake.trusted_public_keys}"):
        async with house.open(keys=keys) as store:
            assert not await counts(store, narinfo.path)
    async with house.open() as store:
        assert await counts(store, narinfo.path)


async def test_with_another_key_the_signature_is_checked_anew_and_that_is_kept(house: House) -> None:
    narinfo = await kept_narinfo(house, OTHER)
    assert await signers(house, narinfo) == house.lake.trusted_public_keys
    async with house.open(keys=str(OTHER.public)) as store:
        assert await counts(store, narinfo.path)
    assert await signers(house, narinfo) == str(OTHER.public)


async def test_a_store_that_is_trusted_needs_no_signature_and_leaves_none(house: House) -> None:
    narinfo = house.lake.add("built", {}, Recipe(content_addressed=False)).narinfo
    async with house.open(f"{house.lake.url}?trusted=1", keys=str(OTHER.public)) as store:
        await store.describe(narinfo.path)
    assert await signers(house, narinfo) is None


async def signers(house: House, narinfo: NarInfo) -> str | None:
    """Say whose signature is kept as checked."""
    async with house.open(keys="") as store:
        assert store.means.cache is not None
        stored = store.means.cache.catalog.narinfo(house.lake.url, narinfo.path.hash_part)
        assert stored is not None
        return None if stored.voucher is None else str(stored.voucher)


async def test_an_audit_finds_what_was_never_signed(house: House) -> None:
    narinfo = await kept_narinfo(house)
    async with house.open() as store:
        assert await audited(store) == []
    plant(house, narinfo)
    async with house.open() as store:
        assert store.means.cache is not None
        assert store.means.cache.catalog.narinfo(house.lake.url, narinfo.path.hash_part) is not None  # in memory, too
        assert await audited(store) == [
            f"{narinfo.path.hash_part}.narinfo is not signed by the key that is said to have signed it"
        ]
        assert await audited(store) == []
        assert not await counts(store, narinfo.path)
    async with house.open() as store:
        assert not await counts(store, narinfo.path)


async def test_an_audit_keeps_what_another_version_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vouched, "_DOMAIN", b"narfs 0.0.1 found signed")
    await kept_narinfo(house)
    monkeypatch.undo()
    async with house.open() as store:
        assert await audited(store) == []


async def audited(store: Store) -> list[str]:
    assert store.means.cache is not None
    found, cursor = await store.means.cache.audit().step(None, 60)
    assert cursor is None
    return [flaw.why for flaw in found.dropped]
