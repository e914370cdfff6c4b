from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.program import Program


@pytest.fixture
def seal(program: Program) -> list[str]:
    """The command, up to what is sealed and where."""
    key = program.home / "key"
    key.write_text(program.lake.secret_key.to_text())
    return ["seal", *program.stores, "--secret-key-file", str(key), "--json"]


def statuses(told: bytes) -> dict[str, str]:
    report: Any = json.loads(told)
    found = [one["status"] for one in report["paths"]]
    assert report["summary"] == {status: found.count(status) for status in ("sealed", "present", "waiting", "failed")}
    return {one["path"]: one["status"] for one in report["paths"]}


def test_a_lake_is_sealed_in_place_and_as_a_copy(program: Program, seal: list[str]) -> None:
    tool, library = program.tool.path.path, program.library.path.path
    assert statuses(program.output(*seal, "--all")) == {tool: "sealed", library: "sealed"}
    assert program.output("cat", *program.stores, *program.index_keys, f"{library}/motto")
    to = ("--closure", "--to", f"file://{program.home}/sealed", tool)
    assert statuses(program.output(*seal, *to)) == {tool: "sealed", library: "sealed"}
    assert statuses(program.output(*seal, *to)) == {tool: "present", library: "present"}


def test_indexes_go_into_a_store_of_their_own(program: Program, seal: list[str]) -> None:
    indexes = program.home / "indexes"
    told = statuses(program.output(*seal, "--all", "--index-to", str(indexes)))
    assert set(told.values()) == {"sealed"}
    names = {f"{member.path.hash_part}.narfs" for member in (program.tool, program.library)}
    assert {file.name for file in indexes.iterdir()} == {"nix-cache-info", *names}
    assert not list(program.lake.directory.glob("*.narfs"))


def test_an_index_store_gives_the_tree_of_a_nar_that_nobody_has_read(program: Program, seal: list[str]) -> None:
    indexes = f"file://{program.home}/indexes"
    program.output(*seal, "--all", "--index-to", indexes)
    program.lake.blob_file(program.library).unlink()
    look = ("ls", *program.stores, program.library.path.path)
    assert program.run(*look, *program.index_keys)[0] == 1
    assert b"motto" in program.output(*look, *program.index_keys, "--index-store", indexes)
    code, _, said = program.run(*look, "--index-store", indexes)
    assert (code, said) == (
        2,
        "narfs: index-stores: no index counts without trusted-index-keys: say whose are to be believed\n",
    )


def test_what_is_bad_is_told_at_the_end_and_stops_nothing_else(program: Program, seal: list[str]) -> None:
    tool, library = program.tool.path.path, program.library.path.path
    program.lake.blob_file(program.library).write_bytes(b"damaged")
    code, output, _ = program.run(*seal, "--closure", "--index-to", f"file://{program.home}/indexes", tool)
    assert (code, statuses(output)) == (1, {tool: "sealed", library: "failed"})
    code, output, _ = program.run(*seal, "--closure", "--to", f"file://{program.home}/to", tool)
    assert (code, statuses(output)) == (1, {tool: "failed", library: "failed"})
    program.lake.narinfo_file(program.library.path).unlink()
    seal.remove("--json")
    code, output, said = program.run(*seal, "--closure", tool)
    assert (code, output.decode()) == (1, f"{tool}\n")
    first, last = said.splitlines()
    assert library in first
    assert last == "narfs: 1 sealed, 1 failed"


def test_shards_seal_together_what_one_run_would(program: Program, seal: list[str]) -> None:
    told: dict[str, str] = {}
    for number in ("1/3", "2/3", "3/3"):
        told |= statuses(program.output(*seal, "--all", "--shard", number))
    assert told == dict.fromkeys((program.tool.path.path, program.library.path.path), "sealed")


def test_what_makes_no_sense_is_a_usage_error(program: Program, seal: list[str]) -> None:
    tool = program.tool.path.path
    for given, said in (
        ((), "give store paths, or --all"),
        (("--all", tool), "give store paths, or --all"),
        (("--to", "a", "--index-to", "b", tool), "give one of them"),
        (("--shard", "9/8", tool), "the second of eight is 2/8"),
    ):
        code, _, complaint = program.run(*seal, *given)
        assert code == 2
        assert said in complaint


def test_all_of_what_cannot_be_listed_is_refused(program: Program, seal: list[str]) -> None:
    (program.home / "empty").mkdir()
    for store, expected, said in (
        ("http://127.0.0.1:9", 2, "http://127.0.0.1:9/: cannot list its *.narinfo: name the paths, or use --closure"),
        (f"file://{program.home}/empty", 1, "cannot be used as a binary cache"),
        (f"file://{program.home}/nothing", 1, "is its disk mounted, and is it a binary cache?"),
    ):
        code, _, complaint = program.run(*[store if part == program.lake.url else part for part in seal], "--all")
        assert code == expected
        assert said in complaint
