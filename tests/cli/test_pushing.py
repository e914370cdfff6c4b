from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.trees import ODD_TREE, write_to_disk

if TYPE_CHECKING:
    from tests.cli.program import Program


def test_what_is_pushed_can_be_read(program: Program) -> None:
    write_to_disk(ODD_TREE, program.home / "tree")
    key = program.home / "key"
    key.write_text(program.lake.secret_key.to_text())
    pushed = ("push", "--to", program.lake.url, "--secret-key-file", str(key), "--json", "odd=tree")
    told = json.loads(program.output(*pushed))
    (path,) = told["roots"]
    assert path.endswith("-odd")
    assert [one["status"] for one in told["paths"]] == ["sent"]
    big = program.output("cat", *program.stores, f"{path}/big")
    assert big == bytes(range(256)) * 300
    assert json.loads(program.output(*pushed))["paths"][0]["status"] == "present"


def test_push_prints_the_store_path_and_nothing_else_in_a_pipe(program: Program) -> None:
    (program.home / "note").write_text("remember")
    path = program.output("push", "--to", program.lake.url, "note").decode().strip()
    assert program.output("cat", "--store", program.lake.url, path) == b"remember"


def test_a_dry_run_sends_nothing(program: Program) -> None:
    (program.home / "note").write_text("remember")
    before = sorted(program.lake.directory.rglob("*"))
    told = json.loads(program.output("push", "--dry-run", "--json", "--to", program.lake.url, "note"))
    assert told["paths"][0]["status"] == "would send"
    assert sorted(program.lake.directory.rglob("*")) == before
