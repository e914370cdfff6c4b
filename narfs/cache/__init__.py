"""The only wing that touches the cache directory. A cache is a rumour: doubt means a miss, never an error.

=============  ==================================================================================================
chunk_cache    ChunkCache: what the engine sees; opening, closing, housekeeping
cached_nar     CachedNar: one NAR in the cache as the event loop sees it: chunk states, pins, reads, writes
check_ahead    CheckAhead: who compares which chunks of one NAR, and what a sequential reader will need next
draft          Draft: a NAR that is still passing
audit          Audit: reads everything that is kept and drops what is wrong
pins           Pins: closures that stay; one file each
pinned         Pinned: how much may be pinned, and how much of that is here
eviction       Evictor: makes room; asks ``budget`` whom, then clears and punches
budget         how much must go, and which units; pure
key            under which key a NAR is kept
layout         how one NAR is cut into chunks and segments, and the header of the presence map; pure
nar_file       NarFile: contents and presence map of one NAR on disk; blocking
zeros          Zeros: which kilobytes of a NAR really are zeros
lots           Lots: gives each NAR its place in EROFS images and slabs
profiles       Profiles: what programs read; the one module that other processes may use, too
parts          Parts: ready parts of EROFS images, beside the NARs they describe
vouched        who was found to have signed a narinfo
catalog        Catalog: sizes, recency, narinfos, roots and lots, in memory and written in batches
catalog_file   CatalogFile: the same on disk, in SQLite
holder         Holder: one directory, one process; notices a power cut
health         Health: whether the disk takes writes, and when to try again
disk           Descriptor, and what of the file system Python does not offer
places         where in the directory things are
means          what these rooms share, and what they count
=============  ==================================================================================================

On disk (0700)::

    lock                          flock; "pid boot-id open|clean"
    catalog.sqlite                losing it loses recency, narinfos and who was found to have signed them, no contents
    nar/<2>/<nix32 key>.nar       the NAR with holes: file offset = NarOffset
                          .map    one byte per chunk: present or not
                          .index  NarIndex; written last. Without it the NAR is not in the cache
                          .part   its part of EROFS images, of the tree in the index; with a crc32
    profile/NAME.profile          what programs read, as formats/profile_object.py writes it
    pins/NAME.json                closures that are not evicted, with their narinfos
    scratch/                      drafts, and what is on its way out; emptied when the cache is opened

Why no wrong byte comes out of it, whatever happens:

Rule 1. A chunk is served when it is CHECKED: written by this process from verified bytes, or read back and compared
with its sha256 in the NarIndex since the start; a kilobyte of zeros in it only if it was compared as such, because a
page that the disk did not take turns into zeros and nobody is told (``zeros``). So a bit in the map is a claim and
needs no checksum of its own, and a claim that outlived its data (a power cut keeps writes in any order, no contents are
fsynced) costs one failed comparison.
Rule 2. Data before bit, bit before hole: a writer sets the bit after the data, an evictor clears it, in memory and on
disk, before it punches. After kill -9 the kernel still has both in the order they were written.
Rule 3. Whoever leaves the event loop with bytes to read pins their segments, and compares generations when it comes
back: a punched span reads as zeros without an error.
"""
