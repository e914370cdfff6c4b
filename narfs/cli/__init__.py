"""The command line: one module per group of commands; no logic.

commands   the group that loads a command's module only when it is used
options    options that several commands share
output     how facts are printed: escaped for a terminal, as JSON for a program
mount      mount, umount
fstab      mount.narfs, which mount(8) starts
run        run
inspect    ls, cat, info
profile    profile
status     status
cache      cache
prefetch   prefetch
push       push
seal       seal
nix        registration, overlay
progress   the progress bar of long work

Command modules import what they run inside the command: help and completion must not wait 200 ms for the event loop.
"""

from __future__ import annotations

from narfs.cli.commands import main

__all__ = ["main"]
