"""A real nginx before a lake: own configuration, own port, own directory; gone when the test is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIGURATION = """\
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr;
events {{ }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_max_body_size 0;
  server {{
    listen 127.0.0.1:{port};
    root {lake};
    dav_methods PUT;
    create_full_put_path on;
  }}
}}
"""


@contextmanager
def nginx(directory: Path, lake: Path) -> Iterator[str]:
    """Serve ``lake`` and give its URL."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        pytest.skip("needs nginx")
    directory.mkdir()
    lake.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = directory / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(directory=directory, lake=lake, port=port))
    server = subprocess.Popen([program, "-e", "stderr", "-p", directory, "-c", configuration])
    try:
        _wait_until_it_listens(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _wait_until_it_listens(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(1000):
        assert server.poll() is None, "nginx ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(0.01)
        else:
            return
    pytest.fail("nginx does not listen")
