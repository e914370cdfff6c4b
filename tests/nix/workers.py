"""A build worker as docs/build-worker.md makes one: a daemon, and the recipe of that page, run as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.nix.nginx import nginx
from tests.support.daemons import ask, managing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.nix.world import World

JOBS = Path(__file__).with_name("worker.nix")
NUMBERS = range(1, 9)
"""Of the jobs."""
SANDBOX_PATHS = ("/bin", "/lib", "/lib64", "/usr")
"""Where the machine's shell is, of which the jobs are made."""
_DOCUMENT = Path(__file__).parents[2] / "docs/build-worker.md"
_DEADLINE_S = 120


class Served(NamedTuple):
    """A lake over HTTP, and the log of its server."""

    url: str
    directory: Path
    log: Path

    def asked(self) -> dict[str, int]:
        """Give the bytes sent of each path that was asked for with GET; nginx writes a line when it has answered."""
        sent: dict[str, int] = {}
        for path, count in re.findall(r'"GET (\S+) HTTP/1.1" 20\d (\d+)', self.log.read_text()):
            sent[path] = sent.get(path, 0) + int(count)
        return sent


class Inputs(NamedTuple):
    """A sealed lake that has the inputs of all jobs; their paths by name."""

    builder: World
    lake: Path
    key: str
    paths: dict[str, str]

    @classmethod
    def build(cls, world: World, scale: int = 1) -> Self:
        """Let Nix build them, 30 MB times ``scale``, and narfs push them."""
        public, secret = world.directory / "public-key", world.directory / "secret-key"
        world.run("nix-store", "--generate-binary-cache-key", "test-1", secret, public)
        lake = world.directory / "lake"
        top = world.run("nix-build", JOBS, "--arg", "scale", str(scale), "-A", "inputs", "--no-out-link").strip()
        world.run(world.narfs, "push", "--to", f"file://{lake}", "--secret-key-file", secret, "--closure", top)
        paths = {path.partition("-")[2]: path for path in world.run("nix-store", "-qR", top).split()}
        return cls(world, lake, public.read_text().strip(), paths)

    @property
    def secret_key(self) -> Path:
        return self.builder.directory / "secret-key"

    def nar(self, name: str) -> str:
        """Name the blob of an input, as the lake is asked for it."""
        hash_part = self.paths[name].rpartition("/")[2][:32]
        lines = (self.lake / f"{hash_part}.narinfo").read_text().splitlines()
        return "/" + next(line.removeprefix("URL: ") for line in lines if line.startswith("URL: "))

    @contextmanager
    def served(self, directory: Path) -> Iterator[Served]:
        """Serve a copy of the lake, which may be pushed to."""
        directory.mkdir()
        copy = directory / "lake"
        shutil.copytree(self.lake, copy, copy_function=os.link)
        with nginx(directory / "nginx", copy) as url:
            yield Served(url, copy, directory / "nginx/access.log")


class Worker:
    """A machine that builds derivations whose inputs it does not have."""

    def __init__(
        self,
        machine: World,
        lake: Served,
        inputs: Inputs,
        *options: str,
        local_overlay: bool = False,
        sandbox: bool = False,
    ) -> None:
        self.machine = machine
        self.home = machine.directory / "worker"
        self.home.mkdir()
        self._recipe = self.home / "narfs-build"
        self._recipe.write_text(recipe(local_overlay=local_overlay))
        self._recipe.chmod(0o755)
        programs = Path(machine.narfs).parent
        path = f"{machine.environment['PATH']}:{programs}"
        self._surroundings = [f"LAKE={lake.url}", f"KEY_FILE={inputs.secret_key}", f"PATH={path}"]
        config = machine.environment["NIX_CONFIG"]
        if local_overlay:
            config += "extra-experimental-features = local-overlay-store\n"
        if sandbox:
            config += f"sandbox = true\nsandbox-fallback = false\nsandbox-paths = {' '.join(SANDBOX_PATHS)}\n"
        self._surroundings.append(f"NIX_CONFIG={config}")
        self._state = [f"XDG_CACHE_HOME={self.home}/cache", f"XDG_STATE_HOME={self.home}/state"]
        keys = ("--trusted-public-keys", inputs.key, "--trusted-index-keys", inputs.key)
        self._daemon = (machine.narfs, "daemon", "--store", lake.url, *keys, *options)

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the daemon until the end of the block; it must end well."""
        with managing() as manager, (self.home / "daemon.log").open("ab") as log:
            command = [*self.machine.enter, "env", *self._state, *self._daemon]
            environment = self.machine.environment | manager.environ
            process = subprocess.Popen(command, env=environment, stderr=log, stdin=subprocess.DEVNULL)
            try:
                manager.wait_ready(process)
                yield process
                process.send_signal(signal.SIGTERM)
                assert process.wait(_DEADLINE_S) == 0
            finally:
                process.kill()
                process.wait()

    def views(self) -> list[dict[str, Any]]:
        """Ask the daemon which views it has."""
        told: list[dict[str, Any]] = ask(self.machine.runtime, "view-list")
        return told

    def forget(self) -> None:
        """Remove the cache and what builds left; the daemon must not run."""
        self.machine.shell(f"rm -rf {self.home}/*/")

    def derivation(self, attribute: str, scale: int = 1) -> str:
        """Have the worker's own Nix write a derivation; that is all it has of it."""
        return self.machine.run("nix-instantiate", JOBS, "--arg", "scale", str(scale), "-A", attribute).strip()

    def start(self, derivation: str, name: str) -> subprocess.Popen[bytes]:
        """Begin to build; the process is the recipe's, and prints what was built."""
        command = [
            *self.machine.enter,
            "env",
            *self._surroundings,
            str(self._recipe),
            derivation,
            f"{self.home}/{name}",
        ]
        return subprocess.Popen(
            command,
            env=self.machine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self, build: subprocess.Popen[bytes]) -> str:
        """Wait for a build and give what it built."""
        out, said = build.communicate(timeout=_DEADLINE_S)
        assert build.returncode == 0, said.decode() + (self.home / "daemon.log").read_text()
        return out.decode().strip()

    def report(self, name: str) -> dict[str, Any]:
        """Give what the recipe wrote of its view."""
        told: dict[str, Any] = json.loads((self.home / name / "report.json").read_text())
        return told

    def mounts(self) -> list[str]:
        """Name the mounts below the worker's directory, in the daemon's namespace."""
        places = [line.split()[4] for line in self.machine.run("cat", "/proc/self/mountinfo").splitlines()]
        return [place for place in places if place.startswith(f"{self.home}/")]


def recipe(*, local_overlay: bool) -> str:
    """Take the script out of the document; with ``local_overlay`` changed as it says there."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", _DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    script, instead = map(str, blocks)
    if not local_overlay:
        return script
    socket = '--nix-socket "$work/nix.sock"'
    script, sockets = re.subn(r"(narfs view create .*?)(?= >&2)", lambda found: f"{found[0]} {socket}", script)
    script, registers = re.subn(r"^.* --register\n", lambda _: instead, script, flags=re.MULTILINE)
    assert (sockets, registers) == (1, 1)
    return script


def wait_for(met: Callable[[], bool]) -> None:
    """Poll until it is so; fails after two minutes."""
    end = time.monotonic() + _DEADLINE_S
    while not met():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
