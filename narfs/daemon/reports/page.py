"""A Report as one HTML file: nothing is loaded, nothing runs, whatever names a stranger gave."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from narfs.daemon.reports.tiles import STEPS, tiles
from narfs.daemon.reports.timeline import timeline, waiting
from narfs.daemon.reports.words import count, duration, grouped, marked_up, package, share
from narfs.daemon.sizes import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MOST_ROWS: Final = 2000
"""Of a table; what is smaller is in the JSON."""


def page(told: Mapping[str, Any]) -> str:
    """Write the page of a Report, as it comes from a daemon."""
    name = marked_up(told["name"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>What {name} read</title>\n<style>{_STYLE}</style></head>\n<body><main>\n"
        f"<h1>What <bdi>{name}</bdi> read</h1>\n"
        f"<p class='lead'>{_lead(told)}</p>\n"
        f"<dl class='sums'>{''.join(_sums(told))}</dl>\n"
        f"<h2>The closure</h2>\n{_closure(told)}\n"
        f"<h2>What was waited for</h2>\n{_waits(told)}\n"
        f"{_never_read(told)}{_table(told)}\n"
        f"<footer>{_HOW_IT_IS_COUNTED}{_left_out(told)}</footer>\n"
        "</main></body></html>\n"
    )


def _lead(told: Mapping[str, Any]) -> str:
    """Answer in a sentence what one opens the page for."""
    unread = told["unread_paths"]
    if not told["read_paths"]:
        return "Nothing was read of it yet."
    if not unread:
        return "Every path that has files was read."
    of_all = f"{share(told['unread_nar_bytes'], told['nar_bytes'])} of the closure"
    return f"<b>{count(unread, 'path')}</b> of {grouped(len(told['paths']))} never read: {of_all}."


def _sums(told: Mapping[str, Any]) -> Iterator[str]:
    fetched, wasted = told["fetched_bytes"], told["wasted_bytes"]
    waited_s = sum(end_s - start_s for start_s, end_s in waiting(told["misses"]))
    yield _sum("Paths read", grouped(told["read_paths"]), f"of {grouped(len(told['paths']))}")
    yield _sum("Files opened", grouped(told["opened_files"]), _of_files(told["paths"]))
    read = f"{share(told['distinct_bytes'], told['nar_bytes'])} of {in_words(told['nar_bytes'])}"
    yield _sum("Bytes read", in_words(told["distinct_bytes"]), read)
    yield _sum("Fetched", in_words(fetched), f"in {count(told['fetched_requests'], 'request')}")
    yield _sum("Fetched, never read", in_words(wasted), f"{share(wasted, fetched)} of fetched")
    yield _sum("Somebody waited", duration(waited_s), f"in {count(told['waits'], 'wait')}")


def _sum(name: str, value: str, rest: str) -> str:
    return f"<div><dt>{name}</dt><dd><b>{value}</b> <span>{rest}</span></dd></div>"


def _of_files(paths: Sequence[Mapping[str, Any]]) -> str:
    known = [path["files"] for path in paths if path["files"] is not None]
    return f"of {grouped(sum(known))}" if len(known) == len(paths) else ""


def _closure(told: Mapping[str, Any]) -> str:
    if not told["paths"]:
        return "<p>It has no paths.</p>"
    bounds = (0.0, *STEPS, 1.0)
    steps = "".join(
        f'<li><svg viewBox="0 0 14 14"><g class="s{number}"><rect width="14" height="14" rx="2"/></g></svg>'
        f"{_percent(low)} to {_percent(high)}</li>"
        for number, (low, high) in enumerate(pairwise(bounds))
    )
    never = (
        '<li><svg viewBox="0 0 14 14"><g class="unread"><rect width="14" height="14" rx="2"/></g></svg>never read</li>'
    )
    legend = f'<ul class="legend"><li>Area: size of the NAR. Shade: how much of it was read:</li>{steps}{never}</ul>'
    return f"<figure>{tiles(told)}<figcaption>{legend}</figcaption></figure>"


def _percent(part: float) -> str:
    return f"{100 * part:g} %"


def _waits(told: Mapping[str, Any]) -> str:
    misses = told["misses"]
    if not misses:
        return "<p>Nothing, or never for as long as a millisecond.</p>"
    kinds = {"contents": "bytes of files", "tree": "a tree, before which nothing in its path can be seen"}
    legend = "".join(
        f'<li><svg viewBox="0 0 14 14"><g class="{kind}"><rect width="14" height="14" rx="2"/></g></svg>{what}</li>'
        for kind, what in kinds.items()
        if any((miss["file"] is None) == (kind == "tree") for miss in misses)
    )
    return (
        f'<figure>{timeline(misses)}<figcaption><ul class="legend"><li>A bar is a wait of 1 ms or more, seconds since'
        f" the view began; right: sums.</li>{legend}</ul></figcaption></figure>"
    )


def _never_read(told: Mapping[str, Any]) -> str:
    unread = sorted((path for path in told["paths"] if path["state"] == "unread"), key=lambda path: -path["nar_bytes"])
    if not unread or not told["read_paths"]:
        return ""
    rows = "".join(
        f"<tr><td class='path'>{_path(path['path'])}</td><td>{in_words(path['nar_bytes'])}</td>"
        f"<td>{_unless_zero(path['fetched_bytes'])}</td></tr>"
        for path in unread[:_MOST_ROWS]
    )
    return (
        f"<h2>Never read</h2>\n<details open><summary>{count(len(unread), 'path')},"
        f" {in_words(told['unread_nar_bytes'])}</summary>\n<table><thead><tr><th>path</th><th>NAR</th><th>fetched</th>"
        f"</tr></thead><tbody>{rows}</tbody></table>{_more(len(unread))}</details>\n"
    )


def _table(told: Mapping[str, Any]) -> str:
    read = sorted((path for path in told["paths"] if path["state"] == "read"), key=lambda path: -path["nar_bytes"])
    if not read:
        return ""
    rows = "".join(_row(path) for path in read[:_MOST_ROWS])
    heads = ("path", "NAR", "read", "", "files", "of", "fetched", "never read", "waited")
    head = "".join(f"<th>{each}</th>" for each in heads)
    return (
        f"<h2>Read</h2>\n<details open><summary>{count(len(read), 'path')}, {in_words(told['distinct_bytes'])} of"
        f" {in_words(sum(path['nar_bytes'] for path in read))}</summary>\n<table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{_more(len(read))}</details>\n"
    )


def _row(path: Mapping[str, Any]) -> str:
    part = path["distinct_bytes"] / max(path["nar_bytes"], 1)
    files = "?" if path["files"] is None else grouped(path["files"])
    bar = f'<span class="bar"><i style="width:{100 * min(part, 1):.1f}%"></i></span>'
    cells = (
        in_words(path["nar_bytes"]),
        in_words(path["distinct_bytes"]),
        bar + share(path["distinct_bytes"], path["nar_bytes"]),
        grouped(path["opened_files"]),
        files,
        _unless_zero(path["fetched_bytes"]),
        _unless_zero(path["wasted_bytes"]),
        duration(path["waited_s"]) if path["waits"] else "",
    )
    return f"<tr><td class='path'>{_path(path['path'])}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _unless_zero(nbytes: int) -> str:
    return in_words(nbytes) if nbytes else ""


def _path(path: str) -> str:
    """Write a store path with its name in front of what nobody reads."""
    name = package(path)
    return f"<b>{marked_up(name)}</b><small>{marked_up(path.removesuffix(name).rstrip('-'))}</small>"


def _more(rows: int) -> str:
    return f"<p>and {count(rows - _MOST_ROWS, 'smaller path')}</p>" if rows > _MOST_ROWS else ""


def _left_out(told: Mapping[str, Any]) -> str:
    if not told["left_out"]:
        return ""
    return f"<p>{grouped(told['left_out'])} reads, files or waits were too many to be told apart; sums have them.</p>"


_HOW_IT_IS_COUNTED: Final = (
    "<p>Counted is what the kernel asked narfs for, in parts of 16 KiB: with its read-ahead, and without what it still"
    " had in memory. Fetched are bytes on the wire that this view was the first to ask for; those of narinfos and"
    " indexes are in the sum only.</p>"
)

_STYLE: Final = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1c1e21;--soft:#6a6f78;--line:#e3e5e9;--card:#f6f7f9;
--never:#ececef;--hatch:#d3d4da;--never-ink:#5a5e66;--empty:#f3f3f5;
--s0:#dcebf9;--s1:#b9d7f3;--s2:#86b9e9;--s3:#4b94da;--s4:#1f6bb8;--s5:#0b4585;--low:#12304f;--middle:#0b2745;--high:#fff;
--contents:#e07b1a;--tree:#8a4fc7;--any:#9aa0aa}
@media(prefers-color-scheme:dark){:root{--ground:#131519;--ink:#e7e9ec;--soft:#9096a1;--line:#2b2f36;--card:#1b1e24;
--never:#25282e;--hatch:#343841;--never-ink:#a3a8b2;--empty:#1d2025;
--s0:#1a2c44;--s1:#1d3f66;--s2:#22588f;--s3:#2f7ac0;--s4:#65a8e2;--s5:#b0d5f7;--low:#e4eefa;--middle:#fff;--high:#0c2138;
--contents:#f09a45;--tree:#b48ae6;--any:#6f7682}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 24px 48px}
h1{font-size:24px;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:16px;margin:32px 0 10px}
.lead{margin:0 0 20px;color:var(--soft);font-size:16px}
.lead b{color:var(--ink)}
.sums{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:10px;margin:0}
.sums div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.sums dt{color:var(--soft);font-size:12px}
.sums dd{margin:0;font-size:12px;color:var(--soft)}
.sums b{display:block;font-size:20px;font-weight:600;color:var(--ink)}
figure{margin:0}
svg{font-family:inherit}
.tiles,.times{display:block;width:100%;height:auto}
.tiles text{fill:inherit;unicode-bidi:isolate}
.group{font-size:13px;font-weight:600;fill:var(--ink)!important}
.name{font-size:12px}
.detail{font-size:11px;opacity:.8}
g.s0 rect{fill:var(--s0)}g.s1 rect{fill:var(--s1)}g.s2 rect{fill:var(--s2)}
g.s3 rect{fill:var(--s3)}g.s4 rect{fill:var(--s4)}g.s5 rect{fill:var(--s5)}
g.s0,g.s1,g.s2{fill:var(--low)}g.s3{fill:var(--middle)}g.s4,g.s5{fill:var(--high)}
g.unread rect{fill:url(#never)}g.unread{fill:var(--never-ink)}
g.empty rect,g.shared rect{fill:var(--empty)}g.empty,g.shared{fill:var(--soft)}
.never{fill:var(--never)}.hatch{fill:var(--hatch)}
.tiles g:hover rect,.times g:hover rect{stroke:var(--ink);stroke-width:1.5}
.times line{stroke:var(--line)}
.times text{font-size:12px;fill:var(--ink);unicode-bidi:isolate}
.times .tick{text-anchor:middle;fill:var(--soft);font-size:11px}
.times .label,.times .sum{text-anchor:end}
.times .sum{fill:var(--soft);font-variant-numeric:tabular-nums}
g.contents rect{fill:var(--contents)}g.tree rect{fill:var(--tree)}.any{fill:var(--any)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:10px 0 0;padding:0;font-size:12px;
color:var(--soft)}
.legend svg{width:14px;height:14px;vertical-align:-2px;margin-right:5px}
details summary{cursor:pointer;color:var(--soft);margin-bottom:8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:500;color:var(--soft);font-size:12px}
th:first-child,.path{text-align:left}
.path{max-width:480px;overflow:hidden;text-overflow:ellipsis;unicode-bidi:isolate}
.path b{font-weight:500}
.path small{color:var(--soft);margin-left:8px;font-size:11px}
.bar{display:inline-block;width:64px;height:8px;margin-right:8px;border-radius:2px;background:var(--never)}
.bar i{display:block;height:8px;border-radius:2px;background:var(--s4)}
footer{margin-top:32px;color:var(--soft);font-size:12px;max-width:80ch}
@media print{details{break-inside:avoid}}
"""
