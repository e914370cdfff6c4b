"""A process that serves: what it is told, what it builds, how it is asked and how it goes.

sizes           "20G", "10%": amounts of a disk
config          Config: one frozen value, valid from birth
sources         where a Config comes from: nix.conf, narfs's TOML file, the command line
selection       which store paths somebody means, as a person writes them
directories     where a user's sockets, logs and cache live
event_loop      one asynchronous function from start to end, one failure
domains         which Views may find in the cache what others have fetched
session         lakes, cache and Store of a Config, opened and closed in order
readiness       how a child tells its parent (or systemd) that it serves, or why it does not
ahead           what is fetched for one View before anybody asks for it: profile, libraries, modules
serving         one View on one mountpoint, from open lakes to clean unmount
log_lines       the log as a terminal may have it
background      ``narfs mount`` without -f: a detached child and the wait for it
control         the control socket: what is said on it, and the asking side
unix_socket     a listening socket, from the moment it answers until its owner goes
control_server  the answering side
status          the numbers a mount answers with, all named
known_paths     what can be said of store paths without their contents: of a closed set, of an open Store
nix_socket      the metadata socket: a Nix daemon that answers from narinfos
nix_answers     what it answers, one function an operation
asking          ``narfs status``: every mount of this user
prefetching/    ``prefetch``: whole paths brought because somebody says so
caching/        ``cache``: what the process that has the cache directory does with it when it is asked
fstab           a line of fstab(5), as ``mount.narfs`` is told it, in words of ``narfs mount``
unmounting      ``narfs umount``, also of dead mounts
linux           the system calls that Python 3.11 has no words for
namespace       a root directory of one's own with a View on /nix/store
running         ``narfs run``: daemon and program in that namespace
trees           entries of a store path: out of its NAR, or through a live mount
reading         ``ls`` and ``cat``: one store path, looked at without a mount
describing      ``info``: what the stores know of it
registering     ``registration``: what Nix has to be told of paths in its store
overlaying      ``overlay``: a writable store for Nix over a closed View
overlays        those that are mounted, here and in other namespaces
pushing         ``push``: sources, key and target of one push
sealing         ``seal``: paths, key and lakes of one run
"""
