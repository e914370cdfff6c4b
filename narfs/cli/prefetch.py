"""``narfs prefetch``."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import click

from narfs.cli.options import READING, ConfigRequest, settings
from narfs.cli.output import print_json
from narfs.cli.progress import progress_bar


@click.command(
    epilog="""\b
Examples:
  narfs prefetch --closure ./result                  into the cache, by the mount or the daemon that has it
  narfs prefetch --wait --prefetch-bytes 2G ./result
  narfs prefetch --view build-17                     all that a view shows, paid by the view
\b
A mount or a daemon that has the cache does it behind the command, from its own stores; a mount of a closure brings
only what it shows."""
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--closure", is_flag=True, help="Bring all that the paths refer to, too.")
@click.option(
    "--view", metavar="NAME", help="Bring paths of this view of the daemon, all of them unless some are named."
)
@click.option("--wait", is_flag=True, help="Wait until everything is here.")
@click.option(
    "--prefetch-bytes", "most", metavar="SIZE", help="Fetch no more than that. [default: what the cache has room for]"
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one object.")
@settings(*READING)
def prefetch(  # noqa: PLR0917 - click hands over by name
    request: ConfigRequest,
    paths: tuple[str, ...],
    closure: bool,
    view: str | None,
    wait: bool,
    most: str | None,
    as_json: bool,
) -> None:
    """Bring store paths whole into the cache, behind everybody who waits for something.

    Nothing is evicted for it. Exit code 1 if it is done and something is missing.
    """
    from narfs.daemon import event_loop
    from narfs.daemon.prefetching import asking
    from narfs.daemon.selection import PathName
    from narfs.daemon.sizes import Size

    try:
        size = None if most is None else Size.parse(most)
    except ValueError as error:
        raise click.BadParameter(f"expected {error}", param_hint="--prefetch-bytes") from error
    if size is not None and not size.bytes:
        raise click.BadParameter("expected a number of bytes such as 500M", param_hint="--prefetch-bytes")
    with progress_bar() as progress:
        told: dict[str, Any] = event_loop.run(
            partial(
                asking.prefetch,
                request.load(),
                os.environ,
                [PathName.parse(path) for path in paths],
                progress,
                closure=closure,
                most_bytes=None if size is None else size.bytes,
                view=view,
                wait=wait,
            )
        )
    if as_json:
        print_json(told)
    _tell(told, quiet=as_json)


def _tell(told: dict[str, Any], *, quiet: bool) -> None:
    from narfs.daemon.sizes import in_words

    if not told["done"]:
        return
    if not quiet:
        click.echo(f"{told['paths']} paths, {in_words(told['fetched_bytes'])} fetched")
    if told["stopped_by"] is not None or told["failed"]:
        reason = _REASONS.get(told["stopped_by"], told["trouble"])
        click.echo(f"narfs: not everything is here: {reason}", err=True)
        click.get_current_context().exit(1)


_REASONS = {
    "allowance": "--prefetch-bytes is reached",
    "quota": "the view may fetch no more (fetch-bytes)",
    "cache": "the cache has no room for it; raise --cache-size, or narfs cache gc makes some",
    "gone": "the view, or the process, has ended",
}
