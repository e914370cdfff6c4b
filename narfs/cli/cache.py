"""``narfs cache``."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from narfs.cli.options import READING, ConfigRequest, settings
from narfs.cli.output import print_json, print_line
from narfs.cli.progress import progress_bar

if TYPE_CHECKING:
    from narfs.daemon.caching.asking import Verified


@click.group(
    epilog="""\b
Examples:
  narfs cache status
  narfs cache verify                 also while it is in use
  narfs cache gc --to 5G
  narfs cache pin ./result           for the train
\b
A cache that is in use is asked for by the process that has it."""
)
def cache() -> None:
    """Look at the cache directory, verify it, make it smaller, and keep closures in it."""


_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
_WHERE = ("cache-dir", "cache-size", "keep-free")


@cache.command()
@_AS_JSON
@settings(*_WHERE)
def status(request: ConfigRequest, as_json: bool) -> None:
    """Say what is kept, and who has it."""
    from narfs.daemon import event_loop
    from narfs.daemon.caching import asking
    from narfs.daemon.sizes import in_words

    told = event_loop.run(partial(asking.status, request.load(), os.environ))
    if as_json:
        print_json(told)
        return
    trouble = "; its disk is in trouble" if told["unusable"] else ""
    rows = [
        ("in use by", f"process {told['pid']}" if told["in_use"] else "nobody"),
        ("kept", f"{in_words(told['used_bytes'])} of {in_words(told['budget_bytes'])}{trouble}"),
        ("left free", f"{in_words(told['keep_free_bytes'])} of the disk"),
        ("NARs", _count(told["nars"])),
        ("narinfos", _count(told["narinfos"])),
        *(("pinned", _of_pin(pin)) for pin in told["pins"]),
    ]
    print_line(os.fsencode(told["directory"]))
    for name, value in rows:
        print_line(os.fsencode(f"  {name:<11}{value}"))


@cache.command()
@_AS_JSON
@settings(*_WHERE)
def verify(request: ConfigRequest, as_json: bool) -> None:
    """Read all that is kept, compare it with its digests, and drop what is wrong: it will be fetched again.

    Exit code 1 if something was dropped.
    """
    from narfs.daemon import event_loop
    from narfs.daemon.caching import asking

    with progress_bar() as progress:
        verified = event_loop.run(partial(asking.verify, request.load(), os.environ, progress))
    _print_verified(verified, as_json=as_json)
    if verified.dropped:
        click.get_current_context().exit(1)


def _print_verified(verified: Verified, *, as_json: bool) -> None:
    from dataclasses import asdict

    from narfs.daemon.sizes import in_words

    if as_json:
        print_json(asdict(verified))
        return
    for what, flaws in (("dropped", verified.dropped), ("left alone", verified.left)):
        for flaw in flaws:
            print_line(os.fsencode(f"{what}: {flaw['file']}: {flaw['why']}"))
    compared = f"{verified.chunks} chunks, {in_words(verified.compared_bytes)}"
    click.echo(f"{verified.nars} NARs compared: {compared}; {len(verified.dropped)} faults")


@cache.command()
@click.option("--to", metavar="SIZE", help="Keep so much. [default: its budget]")
@click.option("--all", "everything", is_flag=True, help="Keep nothing but what is being read.")
@_AS_JSON
@settings(*_WHERE)
def gc(request: ConfigRequest, to: str | None, everything: bool, as_json: bool) -> None:
    """Evict what was used least recently."""
    from narfs.daemon import event_loop
    from narfs.daemon.caching import asking
    from narfs.daemon.sizes import Size, in_words

    if to is not None and everything:
        raise click.UsageError("--to and --all say different things")
    try:
        size = None if to is None else Size.parse(to)
    except ValueError as error:
        raise click.BadParameter(f"expected {error}", param_hint="--to") from error
    if size is not None and size.percent is not None:
        raise click.BadParameter("a share of what? expected a size such as 20G", param_hint="--to")
    to_bytes = 0 if everything else None if size is None else size.bytes
    with progress_bar() as progress:
        told: dict[str, Any] = event_loop.run(partial(asking.shrink, request.load(), os.environ, to_bytes, progress))
    if as_json:
        print_json(told)
        return
    click.echo(f"{in_words(told['evicted_bytes'])} evicted, {in_words(told['used_bytes'])} kept")


_PATHS = click.argument("paths", nargs=-1, required=True, metavar="PATH...")


@cache.command(
    epilog="""\b
Examples:
  narfs cache pin ./result                                  stores and keys of the process that has the cache
  narfs cache pin --store https://ours.example /nix/store/…  nobody has it: these stores"""
)
@_PATHS
@_AS_JSON
@settings(*READING)
def pin(request: ConfigRequest, paths: tuple[str, ...], as_json: bool) -> None:
    """Fetch closures whole, and never evict them.

    A process that has the cache and its stores keeps them complete. Exit code 1 if something could not be had.
    """
    from narfs.daemon import event_loop
    from narfs.daemon.caching import asking
    from narfs.daemon.selection import PathName

    names = list(map(PathName.parse, paths))
    with progress_bar() as progress:
        told = event_loop.run(partial(asking.pin, request.load(), os.environ, names, progress))
    if as_json:
        print_json(told)
    else:
        for one in told:
            print_line(os.fsencode(_of_pin(one)))
    if not all(one["complete"] for one in told):
        click.get_current_context().exit(1)


@cache.command()
@_PATHS
@settings(*_WHERE)
def unpin(request: ConfigRequest, paths: tuple[str, ...]) -> None:
    """Let pinned closures be evicted again, as everything else is."""
    from narfs.daemon import event_loop
    from narfs.daemon.caching import asking
    from narfs.daemon.selection import PathName

    names = list(map(PathName.parse, paths))
    event_loop.run(partial(asking.unpin, request.load(), os.environ, names))


def _of_pin(told: dict[str, Any]) -> str:
    from narfs.daemon.sizes import in_words

    size = f"{told['name']}: {told['paths']} paths, {in_words(told['nar_bytes'])}"
    if told["complete"]:
        return f"{size}, complete"
    why = f": {told['trouble']}" if told["trouble"] else ""
    return f"{size}, {in_words(told['missing_bytes'])} missing{why}"


def _count(count: int | None) -> str:
    return "unknown: the catalog cannot be read" if count is None else str(count)
