"""The packing process: small paths in, crates out. Python's share of a small path is more than zstd's.

Started by ``packers.py`` as ``python -m narfs.publish.packer FD LEVEL``; FD is its end of a socket pair. Both ends are
narfs itself, so what goes through is pickled. It ends when the other end closes.
"""

from __future__ import annotations

import gc
import pickle
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from narfs.errors import NarfsError
from narfs.publish.packing import crate
from narfs.publish.sealing import FramePress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from narfs.publish.packing import Crate, Parcel


def crates(parcels: Sequence[tuple[Path, Parcel]], press: FramePress) -> list[Crate] | NarfsError:
    """Pack them all; what the first failure was, if there was one."""
    try:
        return [crate(root, parcel, press) for root, parcel in parcels]
    except NarfsError as error:
        return error.with_traceback(None)


def main() -> None:
    """Serve the socket whose descriptor the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is the push's to handle
    descriptor, level = map(int, sys.argv[1:])
    gc.disable()  # a batch leaves no cycles behind, and looking for them took a twentieth of the time
    press = FramePress(level)
    ended = suppress(EOFError, BrokenPipeError, ConnectionResetError)
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rwb") as peer, ended:
        while True:
            made = crates(pickle.load(peer), press)  # noqa: S301 - from the process that started this one
            pickle.dump(made, peer)
            peer.flush()


if __name__ == "__main__":
    main()
