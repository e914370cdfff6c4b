from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tests.cli.program import needs_fuse
from tests.support.lakes import Recipe
from tests.support.trees import ODD_TREE, File, Symlink, dump, nodes

if TYPE_CHECKING:
    from tests.cli.program import Program


def test_ls_lists_a_directory_like_ls_l(program: Program) -> None:
    assert program.output("ls", *program.stores, f"{program.tool.path.path}/bin") == (
        b"lrwxrwxrwx  4 alias -> tool\n-r-xr-xr-x 88 tool\n"
    )


def test_ls_describes_a_file_and_a_symlink_without_following_it(program: Program) -> None:
    motto = f"{program.library.path.base_name}/motto"
    assert program.output("ls", *program.stores, motto) == b"-r--r--r-- 8 motto\n"
    assert program.output("ls", *program.stores, f"{program.tool.path.base_name}/bin/alias").endswith(
        b"alias -> tool\n"
    )


def test_ls_r_shows_the_whole_tree_in_the_order_of_the_nar(program: Program) -> None:
    odd = program.lake.add("odd", ODD_TREE, Recipe("none"))
    told = json.loads(program.output("ls", "-R", "--json", *program.stores, odd.path.path))
    seen = [os.fsencode(entry["path"]).removeprefix(odd.path.path.encode() + b"/") for entry in told]
    assert seen == [path for path, _ in nodes(ODD_TREE)][1:]
    sizes = {os.fsencode(entry["path"]).rpartition(b"/")[2]: entry.get("size") for entry in told}
    assert sizes[b"big"] == 256 * 300


def test_ls_gives_raw_names_to_a_pipe(program: Program) -> None:
    assert b"odd \x1b[31m\xff\n" in program.output("ls", *program.stores, program.tool.path.path)


def test_a_path_is_named_by_hash_or_result_link_too(program: Program) -> None:
    (program.home / "result").symlink_to(program.library.path.path)
    for name in (program.library.path.hash_part, "result/motto", "./result/lib/../motto"):
        below = "" if "/" in name else "/motto"
        assert program.output("cat", *program.stores, name + below) == b"be lazy\n"


def test_cat_follows_symlinks_into_other_store_paths(program: Program) -> None:
    assert program.output("cat", *program.stores, f"{program.tool.path.path}/etc/motto") == b"be lazy\n"


def test_cat_does_not_follow_a_symlink_out_of_the_store(program: Program) -> None:
    outside = program.lake.add("outside", {b"passwd": Symlink(b"/etc/passwd"), b"loop": Symlink(b"loop")})
    for name, complaint in (("passwd", "not in /nix/store"), ("loop", "too many symlinks")):
        code, out, said = program.run("cat", *program.stores, f"{outside.path.path}/{name}")
        assert (code, out) == (1, b"")
        assert complaint in said


def test_cat_writes_a_big_file_whole(program: Program) -> None:
    contents = bytes(range(256)) * 40_000  # more than one piece
    big = program.lake.add("big", File(contents))
    assert program.output("cat", *program.stores, big.path.path) == contents


def test_cat_refuses_directories(program: Program) -> None:
    code, out, said = program.run("cat", *program.stores, program.library.path.path)
    assert (code, out) == (1, b"")
    assert "is a directory" in said


def test_info_tells_every_field_and_who_signed(program: Program) -> None:
    told = json.loads(program.output("info", "--closure", "--json", *program.stores, program.tool.path.path))
    narinfo = program.tool.narinfo
    assert told["path"] == program.tool.path.path
    assert told["store"] == program.lake.url
    assert told["narSize"] == narinfo.nar_size
    assert told["references"] == [program.library.path.path]
    assert told["compression"] == "xz"
    assert (told["trustedBy"], told["signedBy"], told["verified"]) == ("signature", "lake.test-1", False)
    assert told["closurePaths"] == 2
    assert told["closureNarSize"] == narinfo.nar_size + program.library.narinfo.nar_size


def test_info_for_people_has_one_fact_a_line(program: Program) -> None:
    program.output("cat", *program.stores, f"{program.library.path.path}/motto")
    lines = program.output("info", *program.stores, program.library.path.path).decode().splitlines()
    assert f"path:           {program.library.path.path}" in lines
    assert "verified:       yes" in lines


def test_content_addressed_paths_need_no_signature_and_others_do(program: Program) -> None:
    free = program.lake.add("free", File(b"x"), Recipe(signed=False))
    told = json.loads(program.output("info", "--json", "--store", program.lake.url, free.path.path))
    assert (told["trustedBy"], told["signedBy"]) == ("content address", None)
    bound = program.lake.add("bound", File(b"x"), Recipe(signed=False, content_addressed=False))
    code, _, said = program.run("info", *program.stores, bound.path.path)
    assert code == 1
    assert "no trusted key" in said


def test_a_nar_that_is_not_what_was_signed_is_not_written_out(program: Program) -> None:
    other = dump({b"motto": File(b"be fast\n"), b"lib": {b"data": File(b"d" * 3000)}})
    member = program.lake.add_nar("forged", other, Recipe("none", content_addressed=False))
    blob = program.lake.blob_file(member)
    blob.write_bytes(other.replace(b"fast", b"late"))
    code, out, said = program.run("cat", *program.stores, f"{member.path.path}/motto")
    assert (code, out) == (1, b"")
    assert said.startswith(f"narfs: {member.path.base_name}: the NAR's sha256 is ")
    assert said.count("\n") == 1


@needs_fuse
def test_a_live_daemon_s_cache_is_read_through_its_mount(program: Program) -> None:
    motto = f"{program.library.path.path}/motto"
    with program.mounted() as place:
        assert (program.at(place, program.library) / "motto").exists()
        program.lake.blob_file(program.library).unlink()  # only the daemon's cache has it now
        assert program.output("cat", *program.stores, motto) == b"be lazy\n"
        assert b"data" in program.output("ls", "-R", *program.stores, program.library.path.path)
        assert program.run("cat", *program.stores, f"{program.library.path.path}/absent")[0] == 1
        assert program.run("cat", *program.stores, "--verify", "progressive", motto)[0] == 1, "another policy"


def test_registration_is_written_for_closed_sets_only(program: Program) -> None:
    tool, library = program.tool.path, program.library.path
    lines = program.output("registration", *program.stores, "--closure", tool.path).decode().splitlines()
    assert [line for line in lines if line.endswith(("-tool", "-library"))] == [library.path, tool.path, library.path]
    code, out, said = program.run("registration", *program.stores, tool.path)
    assert (code, out) == (2, b"")
    assert "give --closure" in said
