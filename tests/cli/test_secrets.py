"""Credentials go to whom they are for, and appear nowhere else: in no output, log, status, argument or file."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import REPOSITORY, needs_fuse
from tests.cli.test_daemon import daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.program import Program

PASSWORD = "netrcKestrel7Q"  # noqa: S105 - to be found again
IN_URL = "urlOsprey4Z"
AWS = {"AWS_ACCESS_KEY_ID": "AKIDMERLIN", "AWS_SECRET_ACCESS_KEY": "awsHobby9W", "AWS_SESSION_TOKEN": "awsSaker2V"}

SERVE = """
import os, sys, trio
from pathlib import Path
from functools import partial
from tests.support.server import serve

async def main():
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, Path(sys.argv[1]))
        server.login = os.environ["LOGIN"]
        print(server.url, flush=True)
trio.run(main)
"""


@contextmanager
def server(directory: Path, password: str) -> Iterator[str]:
    """Serve a lake to whoever has the login; give its URL."""
    command = [sys.executable, "-c", SERVE, str(directory)]
    environ = {**os.environ, "LOGIN": f"me:{password}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True, env=environ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@dataclass
class Watch:
    """Everything that a program said, and what must not be in it."""

    program: Program
    secrets: list[bytes]
    said: list[tuple[str, bytes]] = field(default_factory=list)

    def run(self, *arguments: str, environ: dict[str, str] | None = None, fails: bool = False) -> bytes:
        process = self.program.start(*arguments, environ=environ or {})
        out, err = process.communicate(timeout=60)
        self.said += [(f"output of {arguments}", out), (f"errors of {arguments}", err)]
        assert (process.returncode != 0) == fails, err
        return out

    def look_at_processes(self) -> None:
        """Note the arguments of all processes of narfs."""
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.program.home).encode() in words or b"narfs" in words:
                self.said.append((f"arguments of {place.name}", words))

    def assert_none(self, *but: Path) -> None:
        for file in self.program.home.rglob("*"):
            if file.is_file() and file not in but:
                self.said.append((str(file), file.read_bytes()))
        found = {(where, secret) for where, data in self.said for secret in self.secrets if secret in data}
        assert not found, found


def spellings(*secrets: str) -> list[bytes]:
    """As they are, and as HTTP's Basic authentication has them."""
    basic = [base64.b64encode(f"me:{secret}".encode()) for secret in secrets]
    return [*(secret.encode() for secret in secrets), *basic]


@pytest.fixture
def netrc(program: Program) -> Path:
    file = program.home / "netrc"
    file.write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    config = program.home / ".config/narfs/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'netrc-file = "{file}"\n')
    return file


@needs_fuse
@pytest.mark.mount
def test_a_password_from_netrc_is_in_nothing_that_a_mount_says_or_keeps(program: Program, netrc: Path) -> None:
    watch = Watch(program, spellings(PASSWORD))
    place = program.home / "mnt"
    place.mkdir()
    with server(program.lake.directory, PASSWORD) as url:
        keys = program.stores[2:]
        asked = ["--store", url, *keys]
        watch.run("--debug", "ls", "-R", *asked, program.tool.path.path)
        watch.run("--debug", "info", *asked, program.tool.path.path)
        watch.run("--debug", "mount", *asked, str(place))
        assert (place / program.tool.path.base_name / "bin/tool").read_bytes()
        for options in ((), ("--json",)):
            watch.run("status", *options)
        watch.run("cache", "status", "--json")
        watch.look_at_processes()
        watch.run("umount", str(place))
        netrc.write_text(f"machine 127.0.0.1 login me password {PASSWORD}Wrong\n")
        watch.run("--debug", "cat", *asked, f"{program.library.path.path}/motto", "--cache-dir", "other", fails=True)
    watch.assert_none(netrc)


@needs_fuse
@pytest.mark.mount
def test_one_in_a_store_s_url_is_where_it_was_written_and_nowhere_else(program: Program) -> None:
    watch = Watch(program, spellings(IN_URL))
    with server(program.lake.directory, IN_URL) as url, daemon(program):
        with_password = url.replace("//", f"//me:{IN_URL}@")
        keys = program.stores[2:]
        watch.run("--debug", "ls", "--store", with_password, *keys, program.tool.path.path)
        watch.run("--debug", "info", "--json", "--store", with_password, *keys, program.tool.path.path)
        wrong = with_password.replace("127.0.0.1", "localhost").replace(IN_URL, f"{IN_URL}wrong")
        watch.run("--debug", "ls", "--store", wrong, *keys, program.tool.path.path, "--cache-dir", "other", fails=True)
        view = ("view", "create", "one", "--store", with_password, *keys, "--path", program.tool.path.path, "--json")
        told = json.loads(watch.run(*view))
        assert (Path(told["directory"]) / program.tool.path.base_name / "bin/tool").read_bytes()
        for command in (("status",), ("status", "--json"), ("view", "list"), ("view", "list", "--json")):
            watch.run(*command)
        watch.run("view", "report", "one", "--json")
        watch.look_at_processes()
        (record,) = program.home.rglob("views/one.json")
        assert stat.S_IMODE(record.parent.stat().st_mode) == 0o700
        watch.assert_none(record)


def test_credentials_of_aws_stay_in_their_variables(program: Program) -> None:
    pytest.importorskip("obstore")
    watch = Watch(program, [secret.encode() for secret in AWS.values()][1:])
    with server(program.home / "lake", "nobody") as url:
        store = f"s3://bucket?endpoint={url}&region=eu-x-1"
        for command in (("--debug", "ls"), ("--debug", "info", "--json"), ("-vv", "cat")):
            watch.run(*command, "--store", store, program.tool.path.path, environ=AWS, fails=True)
    watch.assert_none()


def test_a_signing_key_is_read_and_not_said(program: Program) -> None:
    key = program.home / "key"
    text = program.lake.secret_key.to_text()
    key.write_text(text)
    secret = text.partition(":")[2]
    watch = Watch(program, [secret.encode(), secret[:43].encode(), base64.b64decode(secret)[:32]])
    (program.home / "note").write_text("remember")
    to = program.home / "new"
    watch.run("--debug", "push", "--to", f"file://{to}", "--secret-key-file", str(key), "--json", "note")
    watch.run("--debug", "seal", "--store", f"file://{to}", *program.stores[2:], "--secret-key-file", str(key), "--all")
    key.write_text(f"{text}damaged")
    watch.run("--debug", "push", "--to", f"file://{to}", "--secret-key-file", str(key), "note", fails=True)
    watch.assert_none(key)


@needs_fuse
@pytest.mark.mount
def test_cache_and_log_are_for_their_user_alone_whatever_the_umask(program: Program) -> None:
    before = os.umask(0)
    try:
        with program.mounted() as place:
            assert (place / program.tool.path.base_name / "bin/tool").read_bytes()
    finally:
        os.umask(before)
    home = program.environ
    assert stat.S_IMODE((Path(home["XDG_CACHE_HOME"]) / "narfs").stat().st_mode) == 0o700
    logs = list(Path(home["XDG_STATE_HOME"]).rglob("*.log"))
    assert logs
    assert {stat.S_IMODE(log.stat().st_mode) for log in logs} == {0o600}
