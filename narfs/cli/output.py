"""How facts are printed: escaped where a terminal reads them, raw bytes in a pipe, JSON for programs."""

from __future__ import annotations

import json
import os
import sys

import click

from narfs.formats.quote import printable


def is_terminal() -> bool:
    """Say whether a person reads standard output."""
    return sys.stdout.isatty()


def print_json(facts: object) -> None:
    """Print one JSON document; bytes that are no UTF-8 appear as lone surrogates, which is how Python names them."""
    click.echo(json.dumps(facts, indent=2))


def print_line(line: bytes) -> None:
    """Print a line that holds names: as it is into a pipe, without control characters on a terminal."""
    sys.stdout.flush()
    sys.stdout.buffer.write((escaped(line) if is_terminal() else line) + b"\n")


def escaped(line: bytes) -> bytes:
    r"""Write what a terminal would obey or could not show as ``\x1b``, and a backslash twice."""
    return printable(os.fsdecode(line)).encode()
