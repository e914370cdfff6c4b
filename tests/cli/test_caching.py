"""``narfs cache`` on a directory that nobody has, and on one that a mount or a daemon has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from narfs.formats import base32
from tests.cli.program import needs_fuse
from tests.cli.test_daemon import daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.program import Program


def cache_files(program: Program, suffix: str) -> list[Path]:
    return sorted((program.home / "cache_home").rglob(f"*{suffix}"))


def flip(path: Path, at: int = 1000) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.fixture
def filled(program: Program) -> Program:
    for member in (program.tool, program.library):
        program.output(
            "cat", *program.stores, f"{member.path.path}/{'bin/tool' if member is program.tool else 'motto'}"
        )
    return program


@pytest.fixture(params=["nobody", "mount", "daemon"])
def held(request: pytest.FixtureRequest, filled: Program) -> Iterator[Program]:
    """A filled cache that nobody has, or a mount, or a daemon."""
    if request.param == "nobody":
        yield filled
    elif request.param == "mount":
        with filled.mounted("--path", filled.library.path.path):
            yield filled
    else:
        with daemon(filled):
            yield filled


def told(program: Program, *arguments: str, code: int = 0) -> Any:
    ended, out, said = program.run("cache", *arguments, "--json")
    assert (ended, said) == (code, ""), said
    return json.loads(out)


@needs_fuse
@pytest.mark.mount
def test_the_cache_tells_what_it_has_drops_what_is_wrong_and_is_made_smaller(held: Program) -> None:
    status = told(held, "status")
    assert (status["nars"], status["narinfos"]) == (2, 2)
    told(held, "gc")  # a cache whose sizes are not recorded yet is looked through by who has it, in his own time
    size = len(held.tool.nar) + len(held.library.nar)
    assert told(held, "verify") == {"nars": 2, "chunks": 2, "compared_bytes": size, "dropped": [], "left": []}
    name = base32.encode(held.library.narinfo.nar_hash)
    (contents,) = cache_files(held, f"{name}.nar")
    flip(contents)
    (contents.parent / "core").write_bytes(b"?")
    wrong = told(held, "verify", code=1)
    assert {flaw["file"] for flaw in wrong["dropped"]} == {name, f"nar/{name[:2]}/core"}
    assert told(held, "verify")["dropped"] == []
    used = told(held, "status")["used_bytes"]
    assert told(held, "gc") == {"evicted_bytes": 0, "used_bytes": used}
    done = told(held, "gc", "--to", str(used - 1))
    assert 0 < done["evicted_bytes"] < used
    assert told(held, "gc", "--all")["used_bytes"] == 0
    assert cache_files(held, ".nar") == []
    assert held.output("cat", *held.stores, f"{held.library.path.path}/motto") == b"be lazy\n"


def test_a_person_is_told_in_lines(filled: Program) -> None:
    out = filled.output("cache", "status").decode()
    assert "in use by  nobody" in out
    assert "NARs       2" in out
    (index,) = cache_files(filled, f"{base32.encode(filled.tool.narinfo.nar_hash)}.index")
    flip(index, 40)
    code, told_, said = filled.run("cache", "verify")
    assert (code, said) == (1, "")
    assert told_.decode().startswith("dropped: ")
    assert told_.decode().endswith("1 NARs compared: 1 chunks, 3.55 KiB; 1 faults\n")
    assert filled.output("cache", "gc", "--all").endswith(b"evicted, 0 B kept\n")


@pytest.mark.parametrize("options", [("--to", "much"), ("--to", "10%"), ("--to", "1G", "--all")])
def test_sizes_that_are_none_are_refused(program: Program, options: tuple[str, ...]) -> None:
    code, out, said = program.run("cache", "gc", *options)
    assert (code, out) == (2, b"")
    assert said.startswith("narfs cache gc: ")


@needs_fuse
@pytest.mark.mount
def test_a_holder_that_cannot_be_asked_is_named(filled: Program) -> None:
    with filled.mounted("--path", filled.library.path.path):
        process = filled.start("cache", "verify", environ={"XDG_RUNTIME_DIR": str(filled.home / "elsewhere")})
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert b"in use by process" in said
        assert b"no socket in" in said


def test_a_directory_that_cannot_be_a_cache_is_refused(program: Program) -> None:
    (program.home / "file").write_bytes(b"")
    code, out, said = program.run("cache", "verify", "--cache-dir", str(program.home / "file"))
    assert (code, out) == (1, b"")
    assert "file" in said
    assert said.count("\n") == 1
