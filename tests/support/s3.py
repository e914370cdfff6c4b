"""A real S3 server on loopback: versitygw, which ``scripts/setup --test`` builds. It refuses wrong signatures, answers
ranges with 206 and joins parts. A bucket is a directory, an object a file in it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "v1.8.0"
REGION = "eu-narfs-1"
ACCESS_KEY, SECRET_KEY = "narfs-test", "narfs-test-secret"
_START_DEADLINE_S = 20


@dataclass(frozen=True, slots=True)
class S3Server:
    endpoint: str
    directory: Path

    def bucket(self, name: str, *, public: bool = False) -> Path:
        """Make a bucket; give the directory where its objects are."""
        directory = self.directory / name
        directory.mkdir()
        if public:
            policy = {
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": "*",
                        "Action": "s3:GetObject",
                        "Resource": f"arn:aws:s3:::{name}/*",
                    }
                ]
            }
            os.setxattr(directory, "user.policy", json.dumps(policy).encode())
        return directory

    def url(self, bucket: str, **parameters: str) -> str:
        """Give the store URL of a bucket."""
        query = "&".join(f"{key}={value}" for key, value in {"region": REGION, **parameters}.items())
        return f"s3://{bucket}?endpoint={self.endpoint}&{query}"


def find_program() -> str:
    """Find the server, or skip the test and say what is missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "narfs-test" / f"versitygw-{VERSION}"
    found = str(built) if built.exists() else shutil.which("versitygw")
    if found is None:
        pytest.skip(f"no S3 server: scripts/setup --test builds {built}, with Go")
    return found


@contextmanager
def run_s3_server(directory: Path) -> Iterator[S3Server]:
    """Run a server of its own with ``directory`` for its buckets."""
    program = find_program()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = (program, "--port", f"127.0.0.1:{port}", "--region", REGION, "--keep-alive", "--quiet")
    secrets = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    log = directory / "server.log"
    buckets = directory / "buckets"
    buckets.mkdir()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            (*command, "posix", str(buckets)), env={**os.environ, **secrets}, stdout=output, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            _wait_until_it_answers(server, port, log)
            yield S3Server(f"http://127.0.0.1:{port}", buckets)
        finally:
            server.terminate()


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    gives_up = time.monotonic() + _START_DEADLINE_S
    while server.poll() is None and time.monotonic() < gives_up:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)  # a process that starts tells nobody
        else:
            return
    raise RuntimeError(f"the S3 server does not start: {log.read_text()}")
