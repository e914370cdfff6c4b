"""``narfs profile``."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from narfs.cli.options import settings
from narfs.cli.output import print_json, print_line

if TYPE_CHECKING:
    from narfs.cli.options import ConfigRequest

_NAME = click.argument("name")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
_KEY = click.option(
    "--secret-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Sign it with this index key.",
)


@click.group(
    epilog="""\b
Examples:
  narfs profile list
  narfs profile show hello.drv
  narfs profile push hello.drv --to s3://cache --secret-key-file index.sec
      for narfs mount --profile-store s3://cache elsewhere"""
)
def profile() -> None:
    """Look at what views have learned: which parts of which files to bring before a program asks.

    A build's profile is called like its derivation (hello.drv), any other like the packages at the top of its view.
    """


@profile.command(name="list")
@settings("cache-dir")
@_AS_JSON
def list_(request: ConfigRequest, as_json: bool) -> None:
    """List the profiles that are kept: when they changed, how many bytes, name."""
    from narfs.daemon.profiles import handling

    told = handling.list_profiles(request.load())
    if as_json:
        print_json(told)
        return
    for one in cast("list[dict[str, Any]]", told):
        changed = datetime.fromtimestamp(one["changed"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        print_line(os.fsencode(f"{changed}\t{one['bytes']}\t{one['name']}"))


@profile.command()
@_NAME
@settings("cache-dir")
@_AS_JSON
def show(name: str, request: ConfigRequest, as_json: bool) -> None:
    """Print what a profile brings: milliseconds, blocks of 128 KiB, in how many runs since not read, file."""
    from narfs.daemon.profiles import handling

    told: dict[str, Any] = handling.show_profile(request.load(), name)
    if as_json:
        print_json(told)
        return
    for one in told["reads"]:
        file = "/".join(filter(None, (one["package"], one["file"])))
        blocks = f"{one['first_block']}-{one['last_block']}"
        print_line(os.fsencode(f"{one['ms']}\t{blocks}\t{one['unseen']}\t{file}"))


@profile.command()
@_NAME
@_KEY
@settings("cache-dir")
def export(name: str, secret_key_file: Path | None, request: ConfigRequest) -> None:
    """Write a profile to standard output."""
    from narfs.daemon.profiles import handling

    sys.stdout.buffer.write(handling.export_profile(request.load(), name, secret_key_file))


@profile.command(name="import")
@click.argument("file", type=click.File("rb"))
@click.option("--name", metavar="NAME", help="Keep it under this name. [default: its own]")
@settings("cache-dir")
@_AS_JSON
def import_(file: Any, name: str | None, request: ConfigRequest, as_json: bool) -> None:
    """Keep a profile that was exported, in place of one with its name; - reads standard input."""
    from narfs.daemon.profiles import handling

    kept = handling.import_profile(request.load(), file.read(), name)
    print_json({"name": kept}) if as_json else click.echo(kept)


@profile.command()
@_NAME
@click.option("--to", metavar="URL", required=True, help="The binary cache to write it into.")
@_KEY
@settings("cache-dir", "netrc-file")
def push(name: str, to: str, secret_key_file: Path | None, request: ConfigRequest) -> None:
    """Write a profile into a binary cache, for mounts with --profile-store.

    They take it if one of their --trusted-index-keys signed it, or if their URL says ?trusted=1.
    """
    from narfs.daemon.profiles import handling

    handling.push_kept_profile(request.load(), name, to, secret_key_file)


@profile.command()
@_NAME
@settings("cache-dir")
def remove(name: str, request: ConfigRequest) -> None:
    """Forget a profile."""
    from narfs.daemon.profiles import handling

    handling.remove_profile(request.load(), name)
