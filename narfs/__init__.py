"""narfs: Nix store paths as directories, read straight out of NARs in object storage.

The house, from the door to the ground. Imports point down only; ``tests/test_house.py`` holds the arrows.

==========  ==================================================================================================
room        one rule each
==========  ==================================================================================================
cli         one module per group of commands; no logic
daemon      a process that serves: configuration, control socket, status, namespaces
mount       gives a View to the kernel: ``view`` is pure, ``fuse`` is the only room with pyfuse3
publish     writes into lakes: push, seal
engine      joins lake and cache; holds the nursery: store, ingest, accessor, fetcher
lake        the only wing that talks to object storage: BinaryCache over file, http and s3; Upstreams
cache       the only wing that touches the cache directory: NarFile, Catalog, ChunkCache
formats     bytes in, values out: no I/O, no async, no clock
errors      the exception tree; no errno
privileges  what a process gives up before it serves strangers, or unpacks what they packed
seccomp     the system calls of a process that has all it needs open
addresses   how a process does where it may have only so many
offsets     rulers and grids, pure arithmetic
==========  ==================================================================================================

The nouns: a StorePath names one child of /nix/store; a NarInfo is its signed description; a NarListing of Nodes is the
tree inside its NAR; a Frame is a part of the compressed NAR that can be decompressed by itself; a NarIndex is listing,
frames and a digest per chunk; a BinaryCache is one lake, Upstreams are several; the ChunkCache keeps Chunks within a
budget; a NarAccessor reads one NAR; a View is a set of store paths with inode numbers.
"""

__version__ = "0.1.0"
