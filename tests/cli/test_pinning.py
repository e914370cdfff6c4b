"""``narfs cache pin``: closures that are there when no store is."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from narfs.formats import base32
from tests.cli.program import needs_fuse
from tests.cli.test_caching import cache_files, flip
from tests.cli.test_daemon import daemon
from tests.support.lakes import Recipe
from tests.support.sealing import add_sealed
from tests.support.trees import File, read_from_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.program import Program


@pytest.fixture(params=["nobody", "mount", "daemon"])
def held(request: pytest.FixtureRequest, program: Program) -> Iterator[Program]:
    """A cache that nobody has, or a mount that shows something else, or a daemon without views."""
    if request.param == "nobody":
        yield program
    elif request.param == "mount":
        with program.mounted(*program.index_keys, "--path", program.library.path.path):
            yield program
    else:
        with daemon(program, *program.index_keys):
            yield program


def told(program: Program, *arguments: str, code: int = 0) -> Any:
    ended, out, said = program.run("cache", *arguments, "--json")
    assert ended == code, said
    return json.loads(out)


def pins(program: Program) -> dict[str, bool]:
    return {pin["name"]: pin["complete"] for pin in told(program, "status")["pins"]}


@needs_fuse
@pytest.mark.mount
def test_a_pinned_closure_is_whole_stays_and_needs_no_store(held: Program) -> None:
    name = held.tool.path.base_name
    (pin,) = told(held, "pin", *held.stores, held.tool.path.path)
    size = len(held.tool.nar) + len(held.library.nar)
    assert pin == {
        "name": name,
        "paths": 2,
        "nar_bytes": size,
        "missing_bytes": 0,
        "complete": True,
        "trouble": None,
    }
    used = told(held, "gc", "--all")["used_bytes"]
    assert used >= size
    assert told(held, "status")["pinned_bytes"] == size
    shutil.rmtree(held.lake.directory)
    assert told(held, "verify") == {"nars": 2, "chunks": 2, "compared_bytes": size, "dropped": [], "left": []}
    held.output("cache", "unpin", held.tool.path.base_name)
    assert pins(held) == {}
    assert told(held, "gc", "--all")["used_bytes"] == 0


def test_a_pin_survives_restarts_and_the_loss_of_the_catalog(program: Program) -> None:
    told(program, "pin", *program.stores, program.tool.path.path)
    catalog = next(iter(cache_files(program, "catalog.sqlite")))
    catalog.write_bytes(b"not SQLite" * 1000)
    shutil.rmtree(program.lake.directory)
    code, out, said = program.run("cache", "status")
    assert code == 0
    assert f"pinned     {program.tool.path.base_name}: 2 paths".encode() in out
    assert "begun anew" in said
    assert told(program, "gc", "--all")["used_bytes"] > 0
    assert program.output("cat", *program.stores, f"{program.library.path.path}/motto") == b"be lazy\n"


@needs_fuse
@pytest.mark.mount
def test_all_kinds_of_paths_are_pinned_and_mounted_without_a_store(program: Program) -> None:
    trees: dict[str, Any] = {
        kind: {b"data": File(bytes([number]) * 300_000 + bytes(range(256)) * 3000), b"x": File(b"x" * number)}
        for number, kind in enumerate(["sealed", "none", "xz"])
    }
    members = [
        add_sealed(program.lake, "sealed", trees["sealed"], program.lake.secret_key),
        program.lake.add("none", trees["none"], Recipe("none")),
        program.lake.add("xz", trees["xz"], Recipe("xz")),
    ]
    paths = [member.path.path for member in members]
    both = [*program.stores, *program.index_keys]
    assert [pin["complete"] for pin in told(program, "pin", *both, *paths)] == [True] * 3
    shutil.rmtree(program.lake.directory)
    with program.mounted(
        *program.index_keys, *(word for path in paths for word in ("--path", path)), warned="asked again"
    ) as place:
        for member in members:
            assert read_from_disk(program.at(place, member)) == member.tree


@needs_fuse
@pytest.mark.mount
def test_what_was_lost_of_a_pin_is_fetched_again(program: Program) -> None:
    with daemon(program):
        told(program, "pin", program.tool.path.path)
        assert program.output("view", "create", "v", "--closure", program.tool.path.path)
        name = base32.encode(program.tool.narinfo.nar_hash)
        (contents,) = cache_files(program, f"{name}.nar")
        flip(contents)
        assert [flaw["file"] for flaw in told(program, "verify", code=1)["dropped"]] == [name]
        gives_up = time.monotonic() + 60
        while not pins(program)[program.tool.path.base_name] or told(program, "verify")["chunks"] < 2:
            assert time.monotonic() < gives_up


def test_a_pin_that_would_not_fit_is_refused(program: Program) -> None:
    big = program.lake.add("big", {b"data": File(bytes(3_000_000))})
    options = ("--cache-size", "3M", *program.stores, big.path.path)
    code, out, said = program.run("cache", "pin", *options)
    assert (code, out) == (2, b"")
    assert f"{big.path.base_name}: its closure and what is pinned already take 2.86 MiB" in said
    assert "at most 2.62 MiB of this cache can be pinned: raise --cache-size" in said
    assert pins(program) == {}


def test_what_no_store_has_cannot_be_pinned(program: Program) -> None:
    program.lake.narinfo_file(program.library.path).unlink()
    code, out, said = program.run("cache", "pin", *program.stores, program.tool.path.path)
    assert (code, out) == (1, b"")
    assert f"no store has {program.library.path.base_name}" in said
    code, _, said = program.run("cache", "unpin", program.tool.path.path)
    assert code == 1
    assert "is not pinned" in said


def test_a_pin_that_cannot_be_fetched_says_why(program: Program) -> None:
    program.lake.blob_file(program.library).unlink()
    (pin,) = told(program, "pin", *program.stores, program.tool.path.path, code=1)
    assert (pin["complete"], pin["missing_bytes"]) == (False, len(program.library.nar))
    assert pin["trouble"]
    assert pins(program) == {program.tool.path.base_name: False}


def test_a_pin_of_a_sealed_path_that_cannot_be_fetched_says_why(program: Program) -> None:
    member = add_sealed(program.lake, "sealed", {b"x": File(b"x" * 100_000)}, program.lake.secret_key)
    program.lake.blob_file(member).unlink()
    (pin,) = told(program, "pin", *program.stores, *program.index_keys, member.path.path, code=1)
    assert not pin["complete"]
    assert "but not its NAR" in pin["trouble"]


def test_a_damaged_pin_is_told_of_and_dropped_by_verify(program: Program) -> None:
    told(program, "pin", *program.stores, program.tool.path.path)
    (file,) = (program.home / "cache_home").rglob("pins/*.json")
    flip(file, 0)
    code, _, said = program.run("cache", "status")
    assert code == 0
    assert "pin it again" in said
    assert [flaw["file"] for flaw in told(program, "verify", code=1)["dropped"]] == [f"pins/{file.name}"]
    assert program.output("cache", "status")
