from __future__ import annotations

import json
import os
import pty
import random
import re
import subprocess
import sys
from contextlib import suppress
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


def test_on_a_terminal_a_bar_shows_rate_and_time_to_go_and_the_pipe_stays_clean(program: Program) -> None:
    (program.home / "noise").write_bytes(random.Random(1).randbytes(24_000_000))  # noqa: S311
    ours, theirs = pty.openpty()
    command = (sys.executable, "-m", "narfs", "push", "--json", "--to", program.lake.url, "noise")
    environ = {**program.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, cwd=program.home, env=environ, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
        assert process.stdout
        assert json.loads(process.stdout.read())["paths"][0]["status"] == "sent"
    os.close(ours)
    assert re.search(rb"noise .*24\.0 MB", shown)
    assert re.search(rb"[0-9.]+ [kM]B/s", shown)
    assert re.search(rb"0:00:[0-9]{2}", shown)


def test_a_dry_run_sends_nothing(program: Program) -> None:
    (program.home / "note").write_text("remember")
    before = sorted(program.lake.directory.rglob("*"))
    told = json.loads(program.output("push", "--dry-run", "--json", "--to", program.lake.url, "note"))
    assert told["paths"][0]["status"] == "would send"
    assert sorted(program.lake.directory.rglob("*")) == before


def test_what_is_pushed_with_a_key_is_read_in_parts(program: Program) -> None:
    write_to_disk(ODD_TREE, program.home / "tree")
    key = program.home / "key"
    key.write_text(program.lake.secret_key.to_text())
    path = program.output("push", "--to", program.lake.url, "--secret-key-file", str(key), "odd=tree").decode().strip()
    narinfo = program.lake.directory / f"{path[11:43]}.narinfo"
    [url] = [line[5:] for line in narinfo.read_text().splitlines() if line.startswith("URL: ")]
    blob = program.lake.directory / url
    data = blob.read_bytes()
    blob.write_bytes(data[:-9])  # of the seek table, which nobody looks at who reads parts
    seen = program.output("cat", *program.stores, *program.index_keys, f"{path}/big")
    assert seen == bytes(range(256)) * 300
    assert program.run("cat", *program.stores, "--cache-dir", str(program.home / "new"), f"{path}/big")[0] == 1
