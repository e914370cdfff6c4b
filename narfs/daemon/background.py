"""``narfs mount`` without -f: start the same command again as a daemon, and wait until its mount is usable.

The child is the same command line with one variable more, which names the pipe it reports on; so ``ps`` shows what was
asked for, and what the parent was given on standard input the child can still read. It begins a session of its own when
it serves, and not before: at a place of autofs the kernel lets only the process group mount that systemd started.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from narfs.daemon.log_lines import LineFormatter
from narfs.daemon.readiness import READY_DEADLINE_S, Announcer, wait_ready
from narfs.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from pathlib import Path

_READY_FD = "NARFS_READY_FD"


def inherited_announcer(environ: MutableMapping[str, str]) -> Announcer | None:
    """Give the announcer of a process that ``start`` started, None in any other. Its children do not inherit it."""
    number = environ.pop(_READY_FD, None)
    if number is None:
        return None
    fd = int(number)
    os.set_inheritable(fd, False)
    return Announcer(fd, environ, leaves_session=True)


def log_as_daemon(*, with_time: bool) -> None:
    """Have the log tell what comes and goes, and when: whoever reads it was not there.

    What a service manager or a terminal takes down has its time already.
    """
    root = logging.getLogger()
    root.setLevel(min(root.level, logging.INFO))
    if with_time:
        for handler in root.handlers:
            handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))


def start(arguments: Sequence[str], *, log_file: Path, environ: Mapping[str, str]) -> list[str]:
    """Run ``narfs`` with ``arguments`` as a daemon; gives its warnings when it serves, raises what it failed with."""
    try:
        log_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        log = open(log_file, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))  # noqa: SIM115
    except OSError as error:
        raise Unavailable(
            f"{log_file}: cannot be written: {error.strerror}; use --foreground or another user"
        ) from error
    reading, writing = os.pipe()
    with log:
        child = subprocess.Popen(  # noqa: S603 - ourselves
            # -P: no module of ours may come out of the directory that somebody happens to be in.
            [sys.executable, "-P", "-m", "narfs", *arguments],
            env={**environ, _READY_FD: str(writing)},
            pass_fds=(writing,),
            stdout=log,
            stderr=log,
        )
    os.close(writing)
    try:
        warnings = wait_ready(reading, deadline_s=READY_DEADLINE_S, log=f"its log is {log_file}")
    except BaseException:
        child.terminate()
        child.wait()
        raise
    child.returncode = 0  # It outlives us: nobody shall complain that it was not waited for.
    return warnings
