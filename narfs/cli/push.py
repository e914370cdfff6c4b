"""``narfs push``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from narfs.cli.options import ConfigRequest, settings
from narfs.cli.output import print_json
from narfs.cli.progress import progress_bar

if TYPE_CHECKING:
    from narfs.publish.push import PushReport


@click.command(
    epilog="""\b
Examples:
  narfs push --to file:///srv/cache --secret-key-file key.sec ./my-tree
      any directory, as the content-addressed source path NAME-of-the-directory
  narfs push --to file:///srv/cache tools=/opt/tools
      the same under another name
  narfs push --to https://cache.example --closure ./result
      a path of this machine's Nix store with all it refers to
\b
Trees of one push may mention each other; what mentions is a reference. What the store has is not sent again.""",
)
@click.option(
    "--to", "target", required=True, metavar="URL", help="The store that is written: file:///…, http(s)://…, s3://…."
)
@click.option(
    "--secret-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Sign and seal with this key (nix-store --generate-binary-cache-key).",
)
@click.option("--closure", is_flag=True, help="Push all that store paths refer to, too.")
@click.option(
    "--from", "nix_store", metavar="URL", help="Nix store to take store paths from. [default: this machine's]"
)
@click.option("--reference", "references", multiple=True, metavar="PATH", help="A store path that trees may mention.")
@click.option("--compression", type=click.Choice(["zstd", "none"]), default="zstd", show_default=True)
@click.option(
    "--level",
    type=click.IntRange(1, 19),
    metavar="1..19",
    help="Of the compression: 1 is fast, 19 is small. [default: 9]",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one object.")
@settings()
@click.argument("paths", nargs=-1, required=True, metavar="[NAME=]PATH...")
def push(  # noqa: PLR0917 - click hands over by name
    request: ConfigRequest,
    target: str,
    secret_key_file: Path | None,
    closure: bool,
    nix_store: str | None,
    references: tuple[str, ...],
    compression: str,
    level: int | None,
    dry_run: bool,
    as_json: bool,
    paths: tuple[str, ...],
) -> None:
    """Bring files, directories or Nix store paths into a store, as compressed NARs with signed narinfos.

    Prints the store path of each PATH.
    """
    from narfs.daemon import event_loop
    from narfs.daemon.pushing import PushRequest, run_push

    wanted = PushRequest(
        target=target,
        arguments=paths,
        closure=closure,
        secret_key_file=secret_key_file,
        compression=compression,
        level=level,
        references=references,
        nix_store=nix_store,
        dry_run=dry_run,
    )
    with progress_bar() as progress:
        report = event_loop.run(partial(run_push, request.load(), wanted, progress))
    _print(report, as_json=as_json)


def _print(report: PushReport, *, as_json: bool) -> None:
    if as_json:
        told = [
            {
                "path": one.path.path,
                "status": one.status,
                "narSize": one.nar_size,
                "fileSize": one.file_size,
                "vouchedFor": one.vouched_for,
            }
            for one in report.paths
        ]
        print_json({"roots": [root.path for root in report.roots], "paths": told})
        return
    for root in report.roots:
        click.echo(root.path)
    if mute := [one.path.path for one in report.paths if not one.vouched_for]:
        others = f" and {len(mute) - 1} more" if mute[1:] else ""
        click.echo(f"narfs: nobody will trust {mute[0]}{others}: give --secret-key-file", err=True)
