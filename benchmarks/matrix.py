"""``python -m benchmarks all``: how the time is divided, what to do after a failure, and going on after a break.

Rule 1. Each benchmark gets its part of the time that is left, by the seconds in ``BENCHMARKS``; what one does not need
goes to those after it. Rule 2. Each runs at least once, however little time there is, so the whole can take longer than
was asked for on a slow machine. Rule 3. One that fails does not stop the others; what it measured is kept.
"""

from __future__ import annotations

import importlib
import json
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.datasets import kept
from benchmarks.harness import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.harness import Plan

_DONE = kept() / "matrix-done.json"
"""What an interrupted matrix has measured; gone when all is."""


def turns(
    wants_s: Mapping[str, float], ends_at: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[str, float]]:
    """Give each name in turn, with the moment when its time ends."""
    left = dict(wants_s)
    for name in wants_s:
        now = clock()
        yield name, now + max(0.0, ends_at - now) * left[name] / sum(left.values())
        del left[name]


def run(plan: Plan, modules: Mapping[str, str], wants_s: Mapping[str, float], minutes: float, *, resume: bool) -> bool:
    """Measure everything; tells whether all of it went well."""
    done = _finished() if resume else []
    todo = {name: seconds for name, seconds in wants_s.items() if name not in done}
    ends_at = time.monotonic() + minutes * 60
    failed = []
    if not plan.quick:
        _announce(todo, minutes, done)
        _keep(done)
    for number, (name, until) in enumerate(turns(todo, ends_at), 1):
        now = time.monotonic()
        left = "" if plan.quick else f", about {_minutes(until - now)} of the {_minutes(ends_at - now)} left"
        log(f"{name} ({number} of {len(todo)}){left}")
        try:
            importlib.import_module(modules[name]).run(plan if plan.quick else replace(plan, ends_at=until))
        except Exception:  # noqa: BLE001 - rule 3
            traceback.print_exc()
            failed.append(name)
        else:
            done.append(name)
            if not plan.quick:
                _keep(done)
    if failed:
        log(f"failed: {', '.join(failed)}")
    elif not plan.quick:
        _DONE.unlink(missing_ok=True)
    return not failed


def _finished() -> list[str]:
    return list(json.loads(_DONE.read_text(encoding="ascii"))) if _DONE.exists() else []


def _keep(done: list[str]) -> None:
    _DONE.write_text(json.dumps(done), encoding="ascii")


def _announce(todo: Mapping[str, float], minutes: float, done: list[str]) -> None:
    whole = sum(todo.values())
    parts = ", ".join(f"{name} {_minutes(minutes * 60 * seconds / whole)}" for name, seconds in todo.items())
    log(f"about {minutes:g} minutes: {parts}" + (f"; measured before: {', '.join(done)}" if done else ""))


def _minutes(seconds: float) -> str:
    return f"{max(0.0, seconds) / 60:.1f} min"
