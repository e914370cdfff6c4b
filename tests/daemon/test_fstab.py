from __future__ import annotations

import click
import pytest

from narfs.cli.fstab import mount_narfs
from narfs.cli.mount import mount
from narfs.daemon.fstab import mount_arguments
from narfs.errors import UsageError

STORE = "file:///srv/cache"


def test_the_source_is_the_store_and_the_name_in_the_list_of_mounts() -> None:
    assert mount_arguments(STORE, "/mnt", []) == ["mount", "--store", STORE, "-o", f"fsname={STORE}", "--", "/mnt"]


@pytest.mark.parametrize("source", ["none", "narfs"])
def test_no_store_is_that_of_the_configuration(source: str) -> None:
    assert mount_arguments(source, "/mnt", []) == ["mount", "-o", f"fsname={source}", "--", "/mnt"]


@pytest.mark.parametrize("source", ["https://user:secret@cache.example", "s3://bucket?x=1,2"])
def test_what_others_should_not_or_cannot_read_is_no_name(source: str) -> None:
    assert mount_arguments(source, "/mnt", []) == ["mount", "--store", source, "--", "/mnt"]


def test_words_of_narfs_become_its_options_and_others_go_on() -> None:
    options = ["rw,_netdev,closure=/nix/store/a,closure=/nix/store/b", "allow-missing,noatime"]
    assert mount_arguments("none", "/mnt", options) == [
        *("mount", "--closure", "/nix/store/a", "--closure", "/nix/store/b", "--allow-missing"),
        *("-o", "_netdev,noatime,fsname=none", "--", "/mnt"),
    ]


def test_keys_that_come_one_by_one_are_one_list() -> None:
    arguments = mount_arguments("none", "/mnt", ["trusted-public-keys=a:x=,trusted-public-keys=b:y= c:z="])
    assert arguments[1:3] == ["--trusted-public-keys", "a:x= b:y= c:z="]


def test_sloppy_leaves_out_what_nobody_knows() -> None:
    arguments = mount_arguments("none", "/mnt", ["nonempty,noatime,verify=strict"], sloppy=True)
    assert arguments == ["mount", "--verify", "strict", "-o", "nonempty,fsname=none", "--", "/mnt"]


@pytest.mark.parametrize("word", ["remount", "closure", "closure=", "allow-missing=yes"])
def test_what_cannot_be_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=word):
        mount_arguments("none", "/mnt", [word])


OPTIONS = [each.opts[0] for each in mount.params if each.opts[0].startswith("--")]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_a_mount_may_be_given(option: str) -> None:
    alone = {flag.opts[0] for flag in mount.params if isinstance(flag, click.Option) and flag.is_flag}
    word = option if option in alone else f"{option}=x"
    assert option in mount_arguments("none", "/mnt", [word.removeprefix("--")])


def test_the_helper_takes_what_mount_gives_it() -> None:
    given = ["none", "/mnt", "-n", "-v", "-f", "-s", "-t", "narfs", "-o", "rw,closure=x"]
    assert mount_narfs.main(given, standalone_mode=False) is None
