"""``narfs seal``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from narfs.cli.options import ConfigRequest, settings
from narfs.cli.output import print_json
from narfs.cli.progress import progress_bar

if TYPE_CHECKING:
    from narfs.publish.sealer import SealedPath


@click.command(
    epilog="""\b
Examples:
  narfs seal --store file:///srv/cache --secret-key-file key.sec --all
      a lake of one's own, in place: every path gets an index, no NAR changes
  narfs seal --store https://cache.nixos.org --to file:///srv/sealed --secret-key-file key.sec --closure ./result
      a closure, copied in frames that can be read by themselves; its signatures stay valid
\b
NARs in one solid frame or block (most of them) can only be read whole, sealed in place or not: --to is for those.
What is sealed already is left alone. A path that fails does not stop the others.""",
)
@settings("store", "trusted-public-keys")
@click.option("--to", "target", metavar="URL", help="Copy into this store, in the sealed layout. [default: in place]")
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
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one object.")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
def seal(  # noqa: PLR0917 - click hands over by name
    request: ConfigRequest,
    target: str | None,
    secret_key_file: Path,
    closure: bool,
    everything: bool,
    as_json: bool,
    paths: tuple[str, ...],
) -> None:
    """Sign indexes for the NARs of a store, so that parts of them can be read and checked by themselves.

    Each NAR is streamed once and compared with its narinfo, which a trusted key must have signed.
    """
    from narfs.daemon import event_loop
    from narfs.daemon.sealing import SealRequest, run_seal

    wanted = SealRequest(
        arguments=paths, everything=everything, closure=closure, target=target, secret_key_file=secret_key_file
    )
    with progress_bar() as progress:
        done = event_loop.run(partial(run_seal, request.load(), wanted, progress))
    _print(done, as_json=as_json)
    if any(one.status == "failed" for one in done):
        click.get_current_context().exit(1)


def _print(done: list[SealedPath], *, as_json: bool) -> None:
    if as_json:
        facts = [{"path": one.path, "status": one.status, "narSize": one.nar_size, "error": one.error} for one in done]
        print_json({"paths": facts})
        return
    for one in done:
        if one.status == "sealed":
            click.echo(one.path)
        elif one.status == "failed":
            click.echo(f"narfs: {one.path}: {one.error}", err=True)
