"""Gives Views to the kernel, by the two doors ``fuse``, the only room with pyfuse3, and ``slabs``. The rest is pure.

inodes    the numbers of one session, and which store path has which
view      a set of store paths with inode numbers
accessor  what the mount asks of the engine
roots     what is shown for the names in the root of a View, without a wait
reads     what is read of one View: in what order, and what had to be waited for; path_reads of one path of it
waits     everything a handler waits for, so that it can be ended
slab      the contents of all files of a View as one file, which EROFS reads
slabs     a file system of slabs, spoken by ourselves, so that another process can go on with it
errnos    what a program sees of each failure
statistics  what a session was asked
mounted   what the kernel says is mounted
mountpoint  the directory to mount on
scene     a View that is shown, with its roots and waits
names     the names of directories that are being looked into
handles   what the kernel holds open
"""
