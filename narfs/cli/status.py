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
    """Say what the mounts of this user, and the views of the daemon, fetched, served and verified."""
    from narfs.daemon.asking import all_status, daemon_status
    from narfs.daemon.directories import runtime_directory

    runtime = runtime_directory(os.environ)
    told = all_status(runtime, mountpoint)
    daemon = daemon_status(runtime) if mountpoint is None else None
    if as_json:
        print_json([*told, *([] if daemon is None else [daemon])])
        return
    if not told and daemon is None:
        click.echo("nothing is mounted")
    for one in told:
        _print_table(one["mount"]["label"], _rows(one))
    if daemon is not None:
        _print_table("daemon", _daemon_rows(daemon))


def _print_table(label: str, rows: list[tuple[str, str]]) -> None:
    print_line(os.fsencode(label))
    for name, value in rows:
        print_line(os.fsencode(f"  {name:<11}{value}"))


def _daemon_rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    from narfs.daemon.sizes import in_words

    rows = [_process(told["daemon"]), *_sums(told["summary"])]
    rows += _cache(told["cache"], told["daemon"]["cache_dir"])
    for session in told["sessions"]:
        rows += _stores(session)
    for view in told["views"]:
        paths = f"{_counted(view['paths'], 'path')}, {view['frontend']}, at {view['directory']}"
        fetched = f"{in_words(view['fetched_bytes'])} in {_counted(view['fetched_requests'], 'request')}"
        rows.append(("view", f"{view['name']}: {paths}; fetched {fetched}"))
    return rows


def _rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    mount, engine = told["mount"], told["engine"]["counters"]
    kind = "closed" if mount["closed"] else "open"
    passes = f"{engine['passes_verified']} verified, {engine['passes_failed']} failed, {engine['corrupt']} corrupt"
    return [
        _process(mount),
        ("view", f"{kind}, {_counted(mount['paths'], 'path')}, {mount['verified_paths']} verified"),
        ("frontend", mount["frontend"]),
        ("verify", told["serves"]["verify"]),
        *_sums(told["summary"]),
        ("passes", passes),
        *_cache(told["cache"], mount["cache_dir"]),
        *_stores(told),
    ]


def _process(told: dict[str, Any]) -> tuple[str, str]:
    return "process", f"{told['pid']}, narfs {told['version']}, up {timedelta(seconds=int(told['uptime_s']))}"


def _sums(summary: dict[str, Any]) -> list[tuple[str, str]]:
    from narfs.daemon.sizes import in_words

    ratio = summary["hit_ratio"]
    return [
        ("fetched", f"{in_words(summary['fetched_bytes'])} in {_counted(summary['fetched_requests'], 'request')}"),
        ("served", f"{in_words(summary['served_bytes'])} in {_counted(summary['served_reads'], 'read')}"),
        ("hit ratio", "no reads yet" if ratio is None else f"{ratio:.1%}"),
        ("in flight", str(summary["in_flight"])),
        ("errors", str(summary["errors"])),
    ]


def _cache(cache: dict[str, Any] | None, directory: str | None) -> list[tuple[str, str]]:
    from narfs.daemon.sizes import in_words

    if cache is None:
        return [("cache", "none: everything is fetched anew")]
    trouble = "; its disk is in trouble" if cache["unusable"] else ""
    used = f"{in_words(cache['used_bytes'])} of {in_words(cache['budget_bytes'])}{trouble}"
    return [("cache", used), ("", str(directory))]


def _stores(told: dict[str, Any]) -> list[tuple[str, str]]:
    from narfs.daemon.sizes import in_words

    rows = []
    for kind, lakes in (("store", told["lakes"]), ("indexes", told["index_stores"])):
        for url, lake in lakes["lakes"].items():
            rest = ", resting" if url in lakes["resting"] else ""
            requests = _counted(lake["requests_total"], "request")
            rows.append((kind, f"{url}: {in_words(lake['received_bytes_total'])}, {requests}{rest}"))
    return rows


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
