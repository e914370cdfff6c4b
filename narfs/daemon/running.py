"""``narfs run``: a program that sees a View on /nix/store, while nobody else does.

Three processes. The supervisor is the one that was called; it makes the namespace, forks, waits and imports no event
loop, because a user namespace can be entered only by a process of one thread::

    supervisor ─┬─ daemon    the View, on a private directory; a session of its own, so that Ctrl-C does not reach it
                └─ program   /nix/store is the View; its exit code is narfs's

Nothing survives: the daemon is told to end when the program has ended, and if the supervisor is killed the kernel ends
both. The mounts go with the last process of their namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from narfs.daemon import control, linux, namespace
from narfs.daemon.directories import private_directory, runtime_directory, socket_directory
from narfs.daemon.readiness import READY_DEADLINE_S, Announcer, wait_ready
from narfs.daemon.selection import PathName, Selection
from narfs.errors import NarfsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from narfs.daemon.config import Config

_FORWARDED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
_GOODBYE_S = 10.0
"""How long the daemon may take to end; after that it is killed, which loses nothing but its log's last lines."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a command, and the directories in which its name is looked up before $PATH."""

    command: tuple[str, ...]
    bin_directories: tuple[str, ...]

    def find(self, environ: Mapping[str, str]) -> str:
        """Give the file to execute; FileNotFoundError if no directory has it."""
        name = self.command[0]
        if "/" in name:
            return name
        path = os.pathsep.join([*self.bin_directories, environ.get("PATH", os.defpath)])
        found = shutil.which(name, path=path)
        if found is None:
            raise FileNotFoundError(2, f"not found in {' or '.join((*self.bin_directories, '$PATH'))}", name)
        return found


def run(
    config: Config,
    path: str,
    command: tuple[str, ...],
    *,
    closure: bool,
    allow_missing: bool,
    reports: Iterable[Path],
    environ: Mapping[str, str],
) -> int:
    """Run ``command`` in the View of ``path`` and return its exit code; without a command ``path`` is the program.

    What was read until then is kept in ``reports``.
    """
    name = PathName.parse(path)
    if name.path is None:
        raise UsageError(f"{path}: the whole store path is needed here, not only its hash")
    if not command and not name.below:
        raise UsageError(f"{path}: say which program to run: narfs run {path} -- CMD")
    program = Program(command or (f"{name.path.path}/{name.below}",), (f"{name.path.path}/bin",))
    selection = Selection(closed=closure, closures=(name,) if closure else (), allow_missing=allow_missing)
    runtime = runtime_directory(environ)

    def serve(view: str, announcer: Announcer) -> int:
        from narfs.daemon import serving  # noqa: PLC0415 - only in the daemon: the supervisor has to stay single-threaded

        options = serving.mount_options()
        # Two programs at once must be possible, and a mount of the same user: only the first has the cache.
        task = serving.Task(
            config,
            selection,
            Path(view),
            options,
            label=_label(os.getppid()),
            runtime=runtime,
            if_cache_held="uncached",
        )
        serving.run(task, announcer)
        return 0

    if not reports:
        return supervise(program, serve, runtime=runtime, deadline_s=READY_DEADLINE_S)
    from narfs.daemon.reports.keeping import keeping  # noqa: PLC0415 - 5 ms, only for who wants a report

    with keeping(reports) as keep:

        def ended(daemon: int) -> None:
            socket = control.socket_path(socket_directory(runtime), _label(os.getpid()), daemon)
            keep(control.ask(socket, "report"))

        return supervise(program, serve, runtime=runtime, deadline_s=READY_DEADLINE_S, ended=ended)


def _label(supervisor: int) -> str:
    return f"narfs run {supervisor}"


def supervise(
    program: Program,
    serve: Callable[[str, Announcer], int],
    *,
    runtime: Path,
    deadline_s: float,
    ended: Callable[[int], None] | None = None,
) -> int:
    """Run ``program`` beside a daemon that ``serve`` is, and return the program's exit code.

    ``serve`` gets the directory to mount on and the announcer; it runs in a process of its own until SIGTERM. ``ended``
    gets that process when the program has ended; what it fails with is said.
    """
    view = os.fspath(private_directory(socket_directory(runtime) / "view"))
    namespace.enter_private_mounts()
    reading, writing = os.pipe()
    daemon = _fork(lambda: _be_daemon(serve, view, Announcer(writing, os.environ)))
    os.close(writing)
    wait_ready(reading, deadline_s=deadline_s, log="its messages are above")
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    child = _fork(lambda: _be_program(program, view))
    try:
        code = _exit_code(_wait(child))
        if ended is not None:
            try:
                ended(daemon)
            except NarfsError as error:
                sys.stderr.write(f"narfs: no report: {error}\n")
        return code
    finally:
        _end(daemon)


def _fork(become: Callable[[], int]) -> int:
    """Start a process that is ``become`` and ends with what it returns; nothing of the caller's stack runs in it."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = become()
    except NarfsError as error:
        sys.stderr.write(f"narfs: {error}\n")
    except BaseException:  # noqa: BLE001 - whatever it is, it must not climb into the supervisor's stack
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _be_daemon(serve: Callable[[str, Announcer], int], view: str, announcer: Announcer) -> int:
    linux.die_with_parent(os.getppid(), signal.SIGTERM)
    os.setsid()
    os.chdir("/")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a file descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    try:
        return serve(view, announcer)
    except NarfsError as error:
        if announcer.failed(error):
            return 1  # the supervisor says it
        raise


def _be_program(program: Program, view: str) -> NoReturn:
    linux.die_with_parent(os.getppid(), signal.SIGKILL)
    namespace.show_as_store(view)
    # What Python changed at its start, and what supervise() blocks.
    for changed in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(changed, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    try:
        os.execv(program.find(os.environ), program.command)  # noqa: S606 - running a program is the task
    except OSError as error:
        sys.stderr.write(f"narfs: {program.command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        # As env(1), nice(1) and every shell say it: 127 not found, 126 found and not runnable.
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _wait(child: int) -> int:
    """Pass signals on until ``child`` ends; return its wait status."""
    while True:
        heard = signal.sigwaitinfo({*_FORWARDED, signal.SIGCHLD})
        if heard.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
        elif heard.si_code <= 0:
            # Sent by a process. What the terminal sends has reached the program already: it is in our process group.
            os.kill(child, heard.si_signo)


def _exit_code(status: int) -> int:
    """Turn a wait status into an exit code, a signal into 128 + its number as shells do."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _end(daemon: int) -> None:
    """Have the daemon unmount and end, or kill it."""
    with suppress(ProcessLookupError):
        os.kill(daemon, signal.SIGTERM)
    while not os.waitpid(daemon, os.WNOHANG)[0]:
        if signal.sigtimedwait({signal.SIGCHLD}, _GOODBYE_S) is None:
            os.kill(daemon, signal.SIGKILL)
            os.waitpid(daemon, 0)
            return
