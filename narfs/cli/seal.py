"""``narfs seal``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from narfs.cli.options import ConfigRequest, settings
from narfs.cli.output import print_json
from narfs.cli.progress import progress_bar
from narfs.formats.quote import one_line

if TYPE_CHECKING:
    from narfs.publish.sealer import SealReport


@click.command(
    epilog="""\b
Examples:
  narfs seal --store file:///srv/cache --secret-key-file key.sec --all
      a lake of one's own, in place: every path gets an index, no NAR changes
  narfs seal --store https://cache.nixos.org --to file:///srv/sealed --secret-key-file key.sec --closure ./result
      a closure, copied in frames that can be read by themselves; its signatures stay valid
  narfs seal --store https://cache.nixos.org --index-to file:///srv/indexes --secret-key-file key.sec --closure ./result
      indexes alone, in a store of one's own: for narfs mount --index-store file:///srv/indexes
  narfs seal --store s3://cache --to s3://sealed --secret-key-file key.sec --all --shard 2/8
      the second of eight machines; afterwards once more without --shard, for narinfos that waited for other shards
\b
NARs in one solid frame or block (most of them) can only be read whole, with an index or without: --to is for those.
What is sealed already is left alone. A path that fails does not stop the others.""",
)
@settings("store", "trusted-public-keys")
@click.option("--to", metavar="URL", help="Copy into this store, in the sealed layout. [default: in place]")
@click.option("--index-to", metavar="URL", help="Write indexes into this store, and leave the other as it is.")
@click.option(
    "--secret-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    required=True,
    help="The index key: who mounts must have its public half in --trusted-index-keys.",
)
@click.option("--closure", is_flag=True, help="Seal all that the paths refer to, too.")
@click.option(
    "--all", "everything", is_flag=True, help="Seal all that the store has; it must be listable: file://, s3://."
)
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts, from 1: N machines seal one store together.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one object.")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def seal(  # noqa: PLR0917 - click hands over by name
    request: ConfigRequest,
    to: str | None,
    index_to: str | None,
    secret_key_file: Path,
    closure: bool,
    everything: bool,
    shard: str | None,
    as_json: bool,
    paths: tuple[str, ...],
) -> None:
    """Sign indexes for the NARs of a store, so that parts of them can be read and checked by themselves.

    Each NAR is streamed once and compared with its narinfo, which a trusted key must have signed.
    """
    from narfs.daemon import event_loop
    from narfs.daemon.sealing import SealRequest, run_seal

    wanted = SealRequest(
        arguments=paths,
        everything=everything,
        closure=closure,
        to=to,
        index_to=index_to,
        shard=shard,
        secret_key_file=secret_key_file,
    )
    with progress_bar() as progress:
        report = event_loop.run(partial(run_seal, request.load(), wanted, progress))
    _print(report, as_json=as_json)
    if not report.complete:
        click.get_current_context().exit(1)


def _print(report: SealReport, *, as_json: bool) -> None:
    if as_json:
        facts = [
            {"path": one.path, "status": one.status, "narSize": one.nar_size, "error": one.error}
            for one in report.paths
        ]
        print_json({"paths": facts, "summary": report.summary})
        return
    for one in report.paths:
        if one.status == "sealed":
            click.echo(one.path)
        elif one.error is not None:
            click.echo(one_line(f"narfs: {one.path}: {one.error}"), err=True)
    if not report.complete:
        counts = (f"{count} {status}" for status, count in report.summary.items() if count)
        click.echo(f"narfs: {', '.join(counts)}", err=True)
