"""EROFS images of the metadata of Views, from which the kernel reads names and attributes without asking anybody.

Theory of operation. An image is a file of 4 KiB blocks. The contents of regular files are not in it but in the *slab*,
the image's device 1 (the mount option ``device=``), where each file begins on a block::

    image   | head: superblock, device table, root directory | hole | part | hole | part | part | hole ...
            0                                              16 MiB
    slab    | contents of NAR a | gap | contents of NAR b | gap | ...

A *part* is the tree of one NAR (``part``). A NAR is given two bases for good, a block of images and one of the slab,
and all addresses in its part are final: a nid is the place of an inode in the image, in units of 32 bytes. So the same
bytes serve every View with that path, under the same inode numbers: an image is ready parts, each written to its place
in a sparse file, and nothing in them is patched. Only the head is made for the View (``image``). Its root inode has the
same nid in each, which is the ``..`` of every part.

The alternative was to relocate parts when they are joined, so that images need no holes. For 30 k entries (2.9 MB) that
takes 20 ms with a list of places to patch kept beside the part, or 15 ms as one addition of huge integers with two
masks as large as the part; copying takes 0.7 ms. Slab bases have to be kept for good anyway: all Views read one slab.

How much a NAR needs is bounded by the sizes of its listing (``lot``), so it gets its bases before anything is laid out,
and the laying out may be done elsewhere. The holes that this leaves cost nothing.

Only what Linux 5.15 knows is used (chunk-based files, a device table); file-backed mounts came with 6.12. Times come
from the superblock; files of 4 GiB have their own, the same. Everything is root's, because only root can mount it.
"""
