"""The kernel's door, and the only room with pyfuse3 and the errno table.

``stage`` is what a session shows, ``entries`` what the kernel is told of a name, ``handlers`` answer it, ``errnos`` say
what a program sees of a failure, ``recall`` takes back what the kernel was given too early, ``session`` begins and ends
the mount.
"""

from narfs.mount.fuse.handlers import Handlers, MountStatistics
from narfs.mount.fuse.session import serve_mount
from narfs.mount.fuse.stage import Stage

__all__ = ["Handlers", "MountStatistics", "Stage", "serve_mount"]
