"""``narfs ls``, ``narfs cat`` and ``narfs info``: one store path, without a mount."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from narfs.cli.options import ASKING, READING, ConfigRequest, settings
from narfs.cli.output import print_json, print_line

if TYPE_CHECKING:
    from narfs.daemon.config import Config
    from narfs.daemon.trees import Entry


@click.command(
    epilog="""\b
Examples:
  narfs ls ./result
  narfs ls -R /nix/store/…-hello-2.12/share
"""
)
@settings(*READING)
@click.option("-R", "--recursive", is_flag=True, help="List everything below, too.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
@click.argument("path", metavar="STOREPATH[/SUB]")
def ls(request: ConfigRequest, path: str, recursive: bool, as_json: bool) -> None:
    """List a directory of a store path, or describe one file.

    STOREPATH may be written with or without /nix/store, as its hash, or as a symlink such as ./result.
    """
    from narfs.daemon import event_loop, reading
    from narfs.daemon.selection import PathName

    _say_failures_once()
    entries = event_loop.run(partial(reading.list_path, request.load(), PathName.parse(path), recursive=recursive))
    if as_json:
        print_json([entry.facts() for entry in entries.found])
        return
    widest = max((len(str(entry.size)) for entry in entries.found), default=1)
    for entry in entries.found:
        print_line(_line(entry, below=entries.below, widest=widest))


def _line(entry: Entry, *, below: int, widest: int) -> bytes:
    """Write an entry as ``ls -l`` does, without what is the same for all of the store."""
    name = b"/".join(entry.parts[below:]) or (entry.parts[-1] if entry.parts else entry.path.base_name.encode())
    arrow = b"" if entry.target is None else b" -> " + entry.target
    return f"{entry.mode} {entry.size:>{widest}} ".encode() + name + arrow


@click.command(
    epilog="""\b
Examples:
  narfs cat ./result/etc/os-release
  narfs cat /nix/store/…-firmware/image.bin | sha256sum
"""
)
@settings(*READING)
@click.argument("path", metavar="STOREPATH/SUB")
def cat(request: ConfigRequest, path: str) -> None:
    """Write a file of a store path to standard output. Symlinks are followed as long as they stay in the store."""
    from narfs.daemon import event_loop, reading
    from narfs.daemon.selection import PathName

    _say_failures_once()
    event_loop.run(partial(reading.copy_contents, request.load(), PathName.parse(path), sys.stdout.buffer))


@click.command(
    epilog="""\b
Examples:
  narfs info ./result
  narfs info --closure --json /nix/store/…-hello-2.12
"""
)
@settings(*ASKING)
@click.option("--closure", is_flag=True, help="Add up everything it refers to.")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@click.argument("path", metavar="STOREPATH")
def info(request: ConfigRequest, path: str, closure: bool, as_json: bool) -> None:
    """Say what the stores know of a store path, which key signed it, and whether its contents were verified here."""
    from narfs.daemon import describing, event_loop
    from narfs.daemon.selection import PathName

    config: Config = request.load()
    facts: dict[str, Any] = event_loop.run(partial(describing.facts, config, PathName.parse(path), closure=closure))
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        values = value if isinstance(value, list) else [value]
        for each in values or ["-"]:
            print_line(os.fsencode(f"{name + ':':<16}{_shown(each)}"))
            name = ""  # noqa: PLW2901 - named once, then indented


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _say_failures_once() -> None:
    """Keep a pass over a NAR from logging what the command fails with and says itself."""
    passes = logging.getLogger("narfs.engine.passes")
    if not passes.isEnabledFor(logging.INFO):
        passes.setLevel(logging.CRITICAL)
