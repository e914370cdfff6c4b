"""Children that do not outlive us: each is a context manager, ended by pid, unmounted where it mounted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_POLL_S = 0.002
_PATIENCE_S = 60.0


@contextmanager
def child(
    command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server beside us; what it says goes to ``log``. SIGTERM at the end, SIGKILL if that does not help."""
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until ``ready``; a child that ends first is an error with the end of its log."""
    deadline = time.monotonic() + _PATIENCE_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not get ready:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(_POLL_S)


@contextmanager
def mount_of(
    command: Sequence[str | Path], mountpoint: Path, *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a FUSE daemon that stays in the foreground; yields it and the seconds until the root answered."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    device = mountpoint.stat().st_dev
    start = time.perf_counter()
    try:
        with child(command, log=log, environment=environment) as process:
            wait_until(lambda: _answers(mountpoint, device), process, log)
            yield process, time.perf_counter() - start
            with suppress(subprocess.TimeoutExpired):  # then SIGTERM says it again
                subprocess.run(("umount", mountpoint), check=False, capture_output=True)
                process.wait(timeout=10)
    finally:  # Also what a dead daemon left, which ismount() cannot see.
        subprocess.run(("umount", "--lazy", mountpoint), check=False, capture_output=True)


def _answers(mountpoint: Path, device_before: int) -> bool:
    try:
        return mountpoint.stat().st_dev != device_before
    except OSError:  # mounted, and not yet serving
        return False


# Directories are listed for rclone, also those that have an index.html.
# Without tcp_nopush: with loopback's segments of 64 KiB, a quarter of all ranges of 20 to 200 kB waited 44 ms for it.
_NGINX = """\
daemon off; pid "{base}/pid"; error_log "{base}/error.log"; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; autoindex on; index .none; keepalive_requests 1000000;
  default_type application/octet-stream;
  client_body_temp_path "{base}/t1"; proxy_temp_path "{base}/t2"; fastcgi_temp_path "{base}/t3";
  uwsgi_temp_path "{base}/t4"; scgi_temp_path "{base}/t5";
  server {{ listen 127.0.0.1:{port}{tls}; root "{root}";
    dav_methods PUT; create_full_put_path on; client_max_body_size 0; }}
}}
"""


@contextmanager
def nginx(root: Path, base: Path, *, certificate: Path | None = None) -> Iterator[int]:
    """Serve a folder from a real nginx, with TLS if it gets a certificate (and key) to show; yields its port."""
    base.mkdir(parents=True)
    tls = f" ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate}" if certificate else ""
    port = free_port()
    configuration, log = base / "nginx.conf", base / "log"
    user = "user root;\n" if os.geteuid() == 0 else ""  # its workers must get into a root's cache folder
    configuration.write_text(user + _NGINX.format(base=base, root=root, port=port, tls=tls), encoding="utf-8")
    with child(("nginx", "-p", base, "-c", configuration), log=log) as process:
        wait_until(lambda: listens(port), process, log)
        yield port


def free_port() -> int:
    """Find a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def memory_bytes(pid: int, field: str = "VmRSS") -> int:
    """Read one memory field of a process: VmRSS, RssAnon, RssFile."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:  # noqa: PTH123 - /proc
        line = next(line for line in status if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its children that were waited for."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123 - /proc
        fields = stat.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """List the direct children of a process."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as children:  # noqa: PTH123 - /proc
        return [int(word) for word in children.read().split()]


def daemon_cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its children that run."""
    return sum(map(cpu_seconds, (pid, *children_of(pid))))
