"""A lake that misbehaves on order and a real ``narfs mount`` on it, in a network of their own.

That network has nothing but a loopback, whose name server is the proxy's. Mounts are made in there too; ``House.place``
is how they are seen from here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narfs.daemon import background
from narfs.daemon.asking import all_status
from narfs.daemon.readiness import wait_ready
from tests.faults.lake import REPOSITORY, FaultyLake

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETWORK = """
ip link set lo up
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
mount --bind "$1/hosts" /etc/hosts
echo ready
exec cat
"""
_ETC = {
    "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    "nsswitch.conf": "hosts: files dns\n",
    "hosts": "127.0.0.1 localhost\n",
}
_PATIENCE_S = 60


@contextmanager
def private_network(directory: Path) -> Iterator[tuple[str, ...]]:
    """Make one, and give what to put before a command for it to run inside; as root."""
    directory.mkdir(exist_ok=True)
    for name, text in _ETC.items():
        (directory / name).write_text(text)
    command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-euc", _NETWORK, "sh", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n", "the network could not be made"
        try:
            yield ("nsenter", f"--target={holder.pid}", "--net", "--mount", "--")
        finally:
            holder.communicate()


@dataclass(frozen=True, slots=True)
class House:
    """A mount by ``narfs mount``, and all that belongs to it below ``directory``."""

    directory: Path
    inside: tuple[str, ...]
    lake: FaultyLake

    @property
    def place(self) -> Path:
        """Where the mount is seen from outside of its network."""
        if not self.inside:
            return self.directory / "mnt"
        return Path("/proc", self.inside[1].rpartition("=")[2], "root", str(self.directory)[1:], "mnt")

    def warnings(self) -> list[str]:
        """Give what the daemon warned of so far, and its errors, without times."""
        return [message for level, message in self.log() if level in ("WARNING", "ERROR")]

    def log(self) -> list[tuple[str, str]]:
        """Give the level and the text of each line of its log."""
        said = (line.split(" ", 2) for line in (self.directory / "log").read_text().splitlines())
        return [(level, message) for _, level, message in said]

    def status(self) -> dict[str, Any]:
        """Give what ``narfs status --json`` prints of it."""
        return all_status(self.directory / "run" / "narfs")[0]

    def narfs(self, *arguments: str | Path) -> str:
        """Run narfs inside and give what it printed; its complaints are in the error if it fails."""
        done = subprocess.run(
            [*self.inside, sys.executable, "-m", "narfs", *arguments],
            env=self._environ,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def mounted(self, *arguments: str, settings: str = "", module: str = "narfs") -> Iterator[Path]:
        """Mount the lake with ``settings`` in TOML; it is unmounted afterwards, also if that takes force."""
        (self.directory / "mnt").mkdir(exist_ok=True)
        config, log = self.directory / "config.toml", self.directory / "log"
        certificate = f'ssl-cert-file = "{self.lake.authority}"\n' if self.lake.url.startswith("https") else ""
        config.write_text(f'store = ["{self.lake.url}"]\n{certificate}{settings}')
        command = [*self.inside, sys.executable, "-P", "-m", module, "mount", "--config", str(config), *arguments]
        reading, writing = os.pipe()
        with (
            log.open("w") as said,
            subprocess.Popen(
                [*command, str(self.directory / "mnt")],
                env={**self._environ, background._READY_FD: str(writing)},
                pass_fds=(writing,),
                stderr=said,
            ) as daemon,
        ):
            os.close(writing)
            try:
                wait_ready(reading, deadline_s=_PATIENCE_S, log=f"its log is {log}")
                yield self.place
                self.lake.end()
                self.narfs("umount", self.directory / "mnt")
                assert daemon.wait(_PATIENCE_S) == 0
            finally:
                daemon.kill()
                subprocess.run([*self.inside, "umount", "-l", self.directory / "mnt"], check=False, capture_output=True)

    @property
    def _environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "error",
            "NIX_CONF_DIR": str(self.directory / "no-nix"),
            "XDG_CACHE_HOME": str(self.directory),
            "XDG_STATE_HOME": str(self.directory / "state"),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
        }
