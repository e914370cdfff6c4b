"""Showing a View by the kernel's own EROFS: root only, Linux 6.12 or newer, images on a disk.

kernel     what the kernel is asked to do, and whether it can
images     the directory that images are made in, and the mount of the slabs under them
shown      what the kernel shows of a View, for the process that comes after
image      the image of one View: ready parts, and those that have to be made
new_parts  those that are being made
leftovers  pages of slabs that nobody reads again
homes      where its slab is, for one View on one mountpoint
alone      one View on one mountpoint
frontend   who shows a View, and why
"""
