"""What one run reads is brought for the next, with ``narfs profile`` to look at it and to pass it on."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from narfs.formats.profile import Place, Profile, Read
from narfs.formats.profile_object import object_name, read_profile, write_profile
from narfs.formats.signature import PublicKeys
from tests.cli.program import REPOSITORY, needs_fuse
from tests.cli.test_daemon import daemon, wait_for
from tests.support.lakes import Lake
from tests.support.sealing import add_sealed
from tests.support.trees import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.program import Program
    from tests.support.lakes import Member
    from tests.support.trees import Tree

pytestmark = [pytest.mark.mount, needs_fuse]

FILES = 40
READ = list(range(0, FILES, 2))
FILE_BYTES = 150_000
NEEDED = len(READ) * FILE_BYTES
RTT_S = 0.02


def tree(seed: int = 0) -> Tree:
    """Make files that are read, and others between them; ``seed`` changes what is in them."""
    numbers = random.Random(seed)  # noqa: S311
    return {b"share": {b"%02d" % each: File(numbers.randbytes(FILE_BYTES)) for each in range(FILES)}}


class Far:
    """A sealed lake behind a slow line, and what it was asked."""

    def __init__(self, program: Program, lake: Lake, url: str) -> None:
        self.program = program
        self.lake = lake
        self.url = url
        self.options = ["--trusted-index-keys", lake.trusted_public_keys]
        program.stores = ["--store", url, "--trusted-public-keys", lake.trusted_public_keys]

    def add(self, name: str, seed: int = 0) -> Member:
        return add_sealed(self.lake, name, tree(seed), self.lake.secret_key)

    def asked(self) -> tuple[int, int]:
        """Give requests and bytes up to now."""
        with urlopen(f"{self.url}/.statistics") as answer:  # noqa: S310 - our own
            told = json.load(answer)
        return told["requests_total"], told["sent_bytes_total"]

    def quiet(self) -> tuple[int, int]:
        """Wait until nothing more is asked for, and give what was."""
        before, now = (-1, -1), self.asked()
        while now != before:
            time.sleep(0.4)
            before, now = now, self.asked()
        return now

    def wait_until_brought(self, before: tuple[int, int]) -> int:
        """Wait until all that is needed was sent; give the requests up to then."""
        wait_for(lambda: self.asked()[1] - before[1] > NEEDED)
        return self.quiet()[0]

    @property
    def replays(self) -> int:
        """How often a mount has said that it brought all it should."""
        logs = (self.program.home / "state_home/narfs").glob("*.log")
        return sum(log.read_text().count(": done after ") for log in logs)

    def forget(self) -> None:
        """Empty the cache, but for profiles."""
        for place in (self.program.home / "cache_home/narfs").iterdir():
            if place.name != "profile":
                shutil.rmtree(place) if place.is_dir() else place.unlink()


@pytest.fixture
def far(program: Program) -> Iterator[Far]:
    lake = Lake(program.home / "far")
    server = subprocess.Popen(
        (sys.executable, "-m", "tests.support.server", lake.directory, "--rtt-ms", str(RTT_S * 1000), "--mbit", "1000"),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        try:
            yield Far(program, lake, server.stdout.readline().strip())
        finally:
            server.kill()


def read_some(place: Path) -> None:
    """Read as a program does, one file after the other."""
    for each in READ:
        assert len((place / "share" / f"{each:02}").read_bytes()) == FILE_BYTES


def learn(far: Far, name: str = "app-1.0") -> Member:
    """Run once, with an empty cache, and empty it again."""
    app = far.add(name)
    with far.program.mounted(*far.options, "--closure", app.path.path) as place:
        before = far.asked()
        read_some(far.program.at(place, app))
        assert far.asked()[0] - before[0] >= len(READ)
    far.forget()
    return app


def taught(far: Far, app: Member, *options: str) -> int:
    """Run with what was learned; give requests while the program ran."""
    program, before = far.program, far.replays
    with program.mounted(*far.options, *options, "--closure", app.path.path) as place:
        wait_for(lambda: far.replays > before)
        requests, _ = far.quiet()
        read_some(program.at(place, app))
        return far.asked()[0] - requests


def test_the_next_start_comes_as_one_stream_also_when_version_and_hash_have_changed(far: Far) -> None:
    program = far.program
    app = learn(far)
    assert [one["name"] for one in json.loads(program.output("profile", "list", "--json"))] == ["app"]
    shown = json.loads(program.output("profile", "show", "app", "--json"))
    assert [read["file"] for read in shown["reads"]] == [f"share/{each:02}" for each in READ]
    for again in (app, far.add("app-1.1", seed=1)):
        before = far.asked()
        assert taught(far, again) == 0
        assert NEEDED < far.asked()[1] - before[1] < NEEDED * 1.2


def test_a_view_learns_under_the_name_it_is_told_or_not_at_all(far: Far) -> None:
    program = far.program
    app = far.add("app")
    for word in (("--no-profile",), ("--profile", "mine")):
        assert program.output("profile", "list") == b""
        with program.mounted(*far.options, *word, "--closure", app.path.path) as place:
            (program.at(place, app) / "share/07").read_bytes()
    assert program.output("profile", "list").endswith(b"\tmine\n")
    code, _, said = program.run("mount", *program.stores, "--profile", "mine", str(program.home / "mnt"))
    assert (code, "an open view learns nothing" in said) == (2, True)


def test_a_fleet_learns_from_a_lake_what_a_trusted_key_signed(far: Far) -> None:
    program, key_file = far.program, far.program.home / "index.sec"
    app = learn(far)
    key_file.write_text(far.lake.secret_key.to_text())
    push = ("profile", "push", "app", "--to", f"file://{far.lake.directory}")
    exported = program.output("profile", "export", "app")
    program.output(*push)
    program.output("profile", "remove", "app")
    before = far.asked()
    with program.mounted(*far.options, "--profile-store", far.url, "--closure", app.path.path):
        assert far.quiet()[1] - before[1] < NEEDED / 10  # nobody signed it
    program.output("profile", "import", "-", given=exported)
    program.output(*push, "--secret-key-file", str(key_file))
    read_profile(
        (far.lake.directory / object_name("app")).read_bytes(), "app", PublicKeys((far.lake.secret_key.public,))
    )
    program.output("profile", "remove", "app")
    assert taught(far, app, "--profile-store", far.url) == 0
    assert program.output("profile", "list").endswith(b"\tapp\n")


def test_profiles_are_passed_on_as_files(program: Program) -> None:
    profile = Profile((Read(7, Place("app-1.0", 0, b"odd \x1b\xff"), 0, 3),))
    given = write_profile("app", profile)
    assert program.output("profile", "import", "-", given=given) == b"app\n"
    told = program.output("profile", "import", "-", "--name", "other", "--json", given=given)
    assert json.loads(told) == {"name": "other"}
    assert program.output("profile", "export", "app") == given
    assert program.output("profile", "show", "other") == b"7\t0-3\t0\tapp-1.0/odd \x1b\xff\n"
    program.output("profile", "remove", "app")
    assert [one["name"] for one in json.loads(program.output("profile", "list", "--json"))] == ["other"]
    for arguments in (("import", "-"), ("show", "app"), ("remove", "app"), ("export", "../x")):
        code, _, said = program.run("profile", *arguments, given=given[:-1])
        assert code in {1, 2}
        assert said.count("\n") == 1


def drv(program: Program, member: Member, name: str) -> str:
    """Write a derivation that is built from one source."""
    file = program.home / f"{'0' * 32}-{name}.drv"
    out = f"/nix/store/{'1' * 32}-{name}"
    file.write_text(f'Derive([("out","{out}","","")],[],["{member.path.path}"],"x86_64-linux","/bin/sh",[],[])')
    return str(file)


def test_the_next_build_and_a_view_that_comes_back_are_taught(far: Far) -> None:
    program = far.program
    app = far.add("app-1.0")

    def make(view: str, version: str) -> Path:
        told = program.output("view", "create", view, "--drv", drv(program, app, f"hello-{version}"))
        return program.at(Path(os.fsdecode(told.strip())), app)

    with daemon(program, *far.options):
        read_some(make("one", "1.0"))
        program.output("view", "remove", "one")
        assert program.output("profile", "list").endswith(b"\thello.drv\n")
        make("two", "1.1")
    far.forget()
    before = far.asked()
    with daemon(program, *far.options):
        requests = far.wait_until_brought(before)
        place = json.loads(program.output("view", "list", "--json"))[0]["directory"]
        read_some(program.at(Path(place), app))
        # With EROFS the kernel reads on behind a file, or not: on a busy machine behind every second.
        assert far.asked()[0] - requests < len(READ)
        program.output("view", "remove", "two")
    reads = json.loads(program.output("profile", "show", "hello.drv", "--json"))["reads"]
    assert {read["file"] for read in reads if not read["unseen"]} >= {f"share/{each:02}" for each in READ}


def test_a_view_that_goes_takes_its_stream_with_it(far: Far) -> None:
    program = far.program
    learn(far)
    newer = far.add("app-2.0", seed=2)
    with daemon(program, *far.options, "--bandwidth", "50K"):
        before = far.asked()
        program.output("view", "create", "one", "--closure", newer.path.path)
        program.output("view", "remove", "one")
        assert far.quiet()[1] - before[1] < NEEDED / 2
        assert program.output("view", "list") == b""


def test_neither_a_full_cache_nor_a_damaged_profile_harms_anybody(far: Far) -> None:
    program = far.program
    app = learn(far)
    with program.mounted(*far.options, "--cache-size", "1M", "--closure", app.path.path) as place:
        far.quiet()
        read_some(program.at(place, app))
    file = program.home / "cache_home/narfs/profile/app.profile"
    file.write_bytes(b"\0" * 100)
    with program.mounted(*far.options, "--closure", app.path.path) as place:
        read_some(program.at(place, app))
    assert len(json.loads(program.output("profile", "show", "app", "--json"))["reads"]) == len(READ)
