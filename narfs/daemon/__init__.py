"""A process that serves: what it is told, what it builds, how it is asked and how it goes.

sizes        "20G", "10%": amounts of a disk
config       Config: one frozen value, valid from birth
sources      where a Config comes from: nix.conf, narfs's TOML file, the command line
selection    which store paths a View is asked to hold, as a person writes them
session      lakes, cache and Store of a Config, opened and closed in order
directories  where a user's sockets, logs and cache live
readiness    how a child tells its parent (or systemd) that it serves, or why it does not
serving      one View on one mountpoint, from open lakes to clean unmount
background   ``narfs mount`` without -f: a detached child and the wait for it
control      the control socket: line-delimited JSON, ``status`` and ``unmount``
status       the numbers a mount answers with, all named
unmounting   ``narfs umount``, also of dead mounts
linux        the system calls that Python 3.11 has no words for
namespace    a root directory of one's own with a View on /nix/store
running      ``narfs run``: daemon and program in that namespace
reading      ``ls``, ``cat`` and ``info``: one store path, looked at without a mount
"""
