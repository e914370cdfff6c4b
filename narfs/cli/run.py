"""``narfs run``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from narfs.cli.options import REPORTS, SERVING, ConfigRequest, settings
from narfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="""\b
Examples:
  narfs run /nix/store/…-hello-2.12 -- hello --greeting=hi
  narfs run --closure ./result -- bash -c 'ls /nix/store'
  narfs run ./result/bin/hello
  narfs run --closure --report report.html ./result -- make    what of the closure did it read?
\b
Its exit code is that of CMD; 127 if there is no such command, 126 if it cannot be run.""",
)
@settings(*SERVING)
@click.option("--closure", is_flag=True, help="Show the closure of PATH and nothing else.")
@click.option("--allow-missing", is_flag=True, help="Run even if no store has all of the closure.")
@REPORTS
@click.argument("path")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] CMD...")
def run(
    *,
    request: ConfigRequest,
    path: str,
    command: tuple[str, ...],
    closure: bool,
    allow_missing: bool,
    reports: tuple[Path, ...],
) -> None:
    """Run CMD where /nix/store shows PATH and, without --closure, everything else in the stores.

    The machine needs no /nix and nothing is written to it: CMD gets a mount namespace of its own. CMD is looked up in
    PATH/bin first, then in $PATH; without CMD, PATH itself is the program.
    """
    from narfs.daemon import running

    if command[:1] == ("--",):
        command = command[1:]
    elif command and command[0].startswith("-"):
        raise UsageError(f"{command[0]}: options come before PATH, and CMD after --")
    config = request.load()
    code = running.run(
        config, path, command, closure=closure, allow_missing=allow_missing, reports=reports, environ=os.environ
    )
    sys.exit(code)
