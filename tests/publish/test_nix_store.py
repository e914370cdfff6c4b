from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from narfs.errors import FormatError, NotFound, Unavailable, UsageError
from narfs.formats.digest import Hash
from narfs.formats.signature import SecretKey
from narfs.formats.store_path import make_source_path
from narfs.publish.nix_store import NixStore, ValidPath, parse_path_info

if TYPE_CHECKING:
    from collections.abc import Callable

LIBS = make_source_path("libs", bytes(32))
TOOL = make_source_path("tool", bytes(32))
SIGNATURE = SecretKey.generate("builder-1").sign("anything")
HASH = Hash("sha256", bytes(range(32)))

OLD = [
    {
        "path": TOOL.path,
        "narHash": HASH.nix32,
        "narSize": 4096,
        "references": [TOOL.path, LIBS.path],
        "deriver": f"/nix/store/{LIBS.hash_part}-tool.drv",
        "signatures": [str(SIGNATURE)],
        "registrationTime": 1700000000,
        "ultimate": True,
        "valid": True,
    },
    {"path": LIBS.path, "narHash": HASH.nix32, "narSize": 96, "references": [], "ca": f"fixed:r:{HASH.nix32}"},
]
NEW = {
    TOOL.path: {**{key: value for key, value in OLD[0].items() if key != "path"}, "narHash": HASH.sri, "ca": None},
    LIBS.path: {**{key: value for key, value in OLD[1].items() if key != "path"}, "deriver": None, "signatures": []},
}
PATHS = [
    ValidPath(TOOL, HASH.digest, 4096, tuple(sorted([TOOL, LIBS])), f"{LIBS.hash_part}-tool.drv", (SIGNATURE,), None),
    ValidPath(LIBS, HASH.digest, 96, (), None, (), f"fixed:r:{HASH.nix32}"),
]


@pytest.mark.parametrize("document", [OLD, NEW], ids=["list", "object"])
def test_both_shapes_say_the_same(document: object) -> None:
    assert parse_path_info(json.dumps(document).encode()) == PATHS


@pytest.mark.parametrize("document", [[{"path": LIBS.path, "valid": False}], {LIBS.path: None}], ids=["list", "object"])
def test_a_path_that_is_not_valid_is_named(document: object) -> None:
    with pytest.raises(NotFound, match=LIBS.base_name):
        parse_path_info(json.dumps(document).encode())


@pytest.mark.parametrize(
    "text",
    ["", "7", "[7]", '{"x": 7}', "[{}]", '{"/nix/store/nonsense": {"narHash": 7}}', '[{"path": 3, "narSize": []}]'],
)
def test_anything_else_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        parse_path_info(text.encode())


@pytest.mark.parametrize(
    ("url", "root"),
    [(None, "/"), ("daemon", "/"), ("/mnt/other", "/mnt/other"), ("local?root=/mnt/x%20y", "/mnt/x y")],
)
def test_the_files_are_below_the_root_of_the_store(url: str | None, root: str) -> None:
    assert NixStore(url).real_path(LIBS) == Path(root) / "nix/store" / LIBS.base_name


def test_a_store_elsewhere_is_refused() -> None:
    with pytest.raises(UsageError, match="ssh://builder"):
        NixStore("ssh://builder")


@pytest.fixture
def fake_nix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program named nix alone on PATH; it is a shell script with the given body."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(body: str) -> None:
        program = tmp_path / "nix"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)

    return write


async def test_nix_is_asked_with_its_command_enabled(fake_nix: Callable[[str], None], tmp_path: Path) -> None:
    fake_nix(f"printf '%s\\n' \"$@\" > {tmp_path}/arguments; echo '{json.dumps(NEW)}'")
    store = NixStore("/mnt/root")
    answer: list[Any] = await store.path_info([TOOL], closure=True)
    assert answer == PATHS
    assert (tmp_path / "arguments").read_text().split() == [
        *("--extra-experimental-features", "nix-command", "path-info", "--json", "--recursive"),
        *("--store", "/mnt/root", TOOL.path),
    ]


async def test_a_nix_that_wants_the_format_named_is_told(fake_nix: Callable[[str], None]) -> None:
    wants = "error: '--json' without '--json-format' is an error"
    fake_nix(f"case \"$*\" in *' --json-format 1') echo '{json.dumps(NEW)}';; *) echo \"{wants}\" >&2; exit 1;; esac")
    assert await NixStore().path_info([TOOL], closure=True) == PATHS


async def test_a_nix_that_only_warns_of_the_format_is_asked_once(fake_nix: Callable[[str], None]) -> None:
    fake_nix(f"[ $# -eq 5 ] && echo \"warning: '--json' without '--json-format'\" >&2 && echo '{json.dumps(NEW)}'")
    assert await NixStore().path_info([TOOL], closure=False) == PATHS


async def test_what_nix_complains_about_is_passed_on_in_one_line(fake_nix: Callable[[str], None]) -> None:
    fake_nix("echo 'warning: old' >&2; echo \"error: path 'x' is not valid\" >&2; exit 1")
    with pytest.raises(Unavailable, match=r"^nix path-info failed: path 'x' is not valid$"):
        await NixStore().path_info([LIBS], closure=False)


@pytest.mark.usefixtures("fake_nix")
async def test_a_machine_without_nix_is_told_so() -> None:
    with pytest.raises(UsageError, match="not on PATH"):
        await NixStore().path_info([LIBS], closure=False)


async def test_asking_about_nothing_starts_nothing() -> None:
    assert await NixStore().path_info([], closure=True) == []
