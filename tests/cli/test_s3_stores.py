"""From ``narfs push`` to a mount over a real bucket."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from tests.cli.program import REPOSITORY, finish, needs_fuse
from tests.support.s3 import ACCESS_KEY, SECRET_KEY
from tests.support.trees import ODD_TREE, write_to_disk

if TYPE_CHECKING:
    from tests.cli.program import Program
    from tests.support.s3 import S3Server


def with_keys(program: Program, access_key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> None:
    (program.home / ".aws").mkdir(exist_ok=True)
    (program.home / ".aws" / "credentials").write_text(
        f"[builder]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\n"
    )


@needs_fuse
def test_what_is_pushed_to_a_bucket_can_be_mounted(program: Program, s3_server: S3Server) -> None:
    s3_server.bucket("pushed")
    store = s3_server.url("pushed/deep", profile="builder")
    with_keys(program)
    noise = os.urandom(20_000_000)  # zstd cannot make it smaller: it goes in three parts
    write_to_disk(ODD_TREE, program.home / "tree")
    (program.home / "tree" / "noise").write_bytes(noise)
    key = program.home / "key"
    key.write_text(program.lake.secret_key.to_text())
    pushed = ("push", "--to", store, "--secret-key-file", str(key), "--json", "odd=tree")
    (path,) = json.loads(program.output(*pushed))["roots"]
    assert json.loads(program.output(*pushed))["paths"][0]["status"] == "present"

    program.stores = ["--store", store, "--trusted-public-keys", program.lake.trusted_public_keys]
    assert program.output("cat", *program.stores, f"{path}/big") == bytes(range(256)) * 300
    with program.mounted("--path", path) as place:
        (shown,) = place.iterdir()
        assert shown.name == path.removeprefix("/nix/store/")
        assert (shown / "noise").read_bytes() == noise
        assert (shown / "big").read_bytes() == bytes(range(256)) * 300
        lakes = json.loads(program.output("status", "--json", str(place)))
        assert store.partition("?")[0] in json.dumps(lakes)


def test_a_wrong_key_ends_a_push_with_one_line(program: Program, s3_server: S3Server) -> None:
    s3_server.bucket("locked")
    with_keys(program, secret="wrong")  # noqa: S106 - it is
    (program.home / "note").write_text("remember")
    code, out, said = program.run("push", "--to", s3_server.url("locked", profile="builder"), "note")
    assert (code, out) == (1, b"")
    assert "the secret key of profile 'builder' does not fit its access key (SignatureDoesNotMatch)" in said
    assert said.count("\n") == 1


def test_a_profile_that_is_not_there_is_a_usage_error(program: Program, s3_server: S3Server) -> None:
    (program.home / "note").write_text("remember")
    code, out, said = program.run("push", "--to", s3_server.url("any", profile="builder"), "note")
    assert (code, out) == (2, b"")
    assert "profile 'builder' is neither in" in said


def test_without_obstore_it_says_what_to_install(program: Program) -> None:
    shadow = program.home / "shadow"
    shadow.mkdir()
    (shadow / "obstore.py").write_text("raise ModuleNotFoundError('not here')")
    (program.home / "note").write_text("remember")
    environ = {"PYTHONPATH": f"{shadow}:{REPOSITORY}"}
    code, out, said = finish(program.start("push", "--to", "s3://any", "note", environ=environ))
    assert (code, out) == (2, b"")
    assert "pip install 'narfs[s3]'" in said


def test_a_bucket_is_sealed_into_others_and_in_place(program: Program, s3_server: S3Server) -> None:
    with_keys(program)
    source = s3_server.bucket("unsealed")
    program.lake.blob_file(program.library).write_bytes(b"damaged")
    shutil.copytree(program.lake.directory, source, dirs_exist_ok=True)
    key = program.home / "key"
    key.write_text(program.lake.secret_key.to_text())
    places = {name: s3_server.bucket(name) for name in ("indexes", "copies")}
    keys = ("--trusted-public-keys", program.lake.trusted_public_keys, "--secret-key-file", str(key))
    seal = ("seal", "--store", s3_server.url("unsealed", profile="builder"), *keys, "--json", "--all")

    def summary(*arguments: str) -> dict[str, int]:
        code, told, said = program.run(*seal, *arguments)
        assert (code, said) == (1, "")
        found: dict[str, int] = json.loads(told)["summary"]
        return {status: count for status, count in found.items() if count}

    index = f"{program.tool.path.hash_part}.narfs"
    assert summary("--index-to", s3_server.url("indexes", profile="builder")) == {"sealed": 1, "failed": 1}
    assert {file.name for file in places["indexes"].glob("*.n*")} == {index}
    assert summary("--to", s3_server.url("copies", profile="builder")) == {"failed": 2}
    assert not list(places["copies"].glob("*.narinfo"))
    assert not list(source.glob("*.narfs"))
    assert summary() == {"sealed": 1, "failed": 1}
    assert (source / index).exists()
    assert summary() == {"present": 1, "failed": 1}
