"""``narfs registration``."""

from __future__ import annotations

from functools import partial

import click

from narfs.cli.options import ASKING, ConfigRequest, settings


@click.command(
    epilog="""\b
Examples:
  narfs registration --closure ./result | nix-store --load-db
  nix-store -qR ./result | xargs narfs registration > closure.reg
"""
)
@settings(*ASKING)
@click.option("--closure", is_flag=True, help="Write all that the paths refer to, too.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def registration(request: ConfigRequest, paths: tuple[str, ...], closure: bool) -> None:
    """Write what nix-store --load-db reads to take paths that are there for valid, references first.

    Fails if a path refers to one that is not written.
    """
    from narfs.daemon import event_loop, registering
    from narfs.daemon.selection import Selection

    selection = Selection.of(closures=paths) if closure else Selection.of(paths=paths)
    click.echo(event_loop.run(partial(registering.registration_of, request.load(), selection)), nl=False)
