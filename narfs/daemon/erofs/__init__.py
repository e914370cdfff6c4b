"""Showing a View by the kernel's own EROFS: root only, Linux 6.12 or newer, images on a disk.

kernel    what the kernel is asked to do, and whether it can
images    the directory that images are made in
image     the image of one View: ready parts, and those that have to be made
frontend  who shows a View, and why
"""
