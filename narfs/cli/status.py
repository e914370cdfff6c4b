"""``narfs status``."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from narfs.cli.output import print_json, print_line


@click.command(
    epilog="""\b
Examples:
  narfs status                      one table for each mount of yours
  narfs status ~/store --json       every counter of one, for a program
"""
)
@click.argument("mountpoint", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print every counter as JSON: a list, one object a mount.")
def status(mountpoint: Path | None, as_json: bool) -> None:
    """Say what the mounts of this user fetched, served and verified."""
    from narfs.daemon.asking import all_status
    from narfs.daemon.directories import runtime_directory

    told = all_status(runtime_directory(os.environ), mountpoint)
    if as_json:
        print_json(told)
        return
    if not told:
        click.echo("nothing is mounted")
    for one in told:
        _print_table(one)


def _print_table(told: dict[str, Any]) -> None:
    print_line(os.fsencode(told["mount"]["label"]))
    for name, value in _rows(told):
        print_line(os.fsencode(f"  {name:<11}{value}"))


def _rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    from narfs.daemon.sizes import in_words

    mount, summary, engine, cache = told["mount"], told["summary"], told["engine"]["counters"], told["cache"]
    kind = "closed" if mount["closed"] else "open"
    ratio = summary["hit_ratio"]
    rows = [
        ("process", f"{mount['pid']}, narfs {mount['version']}, up {timedelta(seconds=int(mount['uptime_s']))}"),
        ("view", f"{kind}, {_counted(mount['paths'], 'path')}, {mount['verified_paths']} verified"),
        ("verify", told["serves"]["verify"]),
        ("fetched", f"{in_words(summary['fetched_bytes'])} in {_counted(summary['fetched_requests'], 'request')}"),
        ("served", f"{in_words(summary['served_bytes'])} in {_counted(summary['served_reads'], 'read')}"),
        ("hit ratio", "no reads yet" if ratio is None else f"{ratio:.1%}"),
        ("in flight", str(summary["in_flight"])),
        (
            "passes",
            f"{engine['passes_verified']} verified, {engine['passes_failed']} failed, {engine['corrupt']} corrupt",
        ),
        ("errors", str(summary["errors"])),
    ]
    if cache is None:
        rows.append(("cache", "none: everything is fetched anew"))
    else:
        trouble = "; its disk is in trouble" if cache["unusable"] else ""
        rows.append(("cache", f"{in_words(cache['used_bytes'])} of {in_words(cache['budget_bytes'])}{trouble}"))
        rows.append(("", str(mount["cache_dir"])))
    for url, lake in told["lakes"]["lakes"].items():
        rest = ", resting" if url in told["lakes"]["resting"] else ""
        rows.append(
            (
                "store",
                f"{url}: {in_words(lake['received_bytes_total'])}, {_counted(lake['requests_total'], 'request')}{rest}",
            )
        )
    return rows


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
