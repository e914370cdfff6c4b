"""The kernel's door, and the only room with pyfuse3 and the errno table.

``errnos`` says what a program sees of a failure, ``handlers`` answer the kernel, ``recall`` takes back what it was
given too early, ``session`` begins and ends the mount.
"""

from narfs.mount.fuse.handlers import Handlers, MountStatistics
from narfs.mount.fuse.session import serve_mount

__all__ = ["Handlers", "MountStatistics", "serve_mount"]
