"""Gives a View to the kernel: ``view`` is pure, ``fuse`` is the only room with pyfuse3 and errno."""
