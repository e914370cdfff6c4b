"""The kernel's door for directories, and the only room with pyfuse3.

``stage`` is what a session shows, ``entries`` what the kernel is told of a name, ``handlers`` answer it, ``recall``
takes back what the kernel was given too early, ``reading`` reads requests without waiting in the kernel, ``session``
begins and ends the mount.
"""

from narfs.mount.fuse.handlers import Handlers
from narfs.mount.fuse.session import serve_mount
from narfs.mount.fuse.stage import Stage

__all__ = ["Handlers", "Stage", "serve_mount"]
