"""The engine joins lake and cache and holds the one nursery. Readers own no work: they wait for it, with a deadline.

means      what the rooms here work with and count
trust      which narinfos count
ingest     one forward pass over a blob: NAR pieces, digests, tree, frames; no I/O
worker     the process that runs ingests; parsing and hashing never share the mount's interpreter lock
workers    the pool of such processes, seen from the event loop
part_making  parts of EROFS images, made by workers
wire       what the loop and the workers say to each other
backoff    what failed last, and until when nobody tries again
flights    single flight: work that belongs to nobody who waits for it
passes     a Pass: lake stream → worker → cache, and what may be known of it before it ends
ranges     the parts of a blob that can be fetched by themselves
narinfos   trusted narinfos, asked of the lakes and kept
sealed     the sealed index of a path, found and checked
pages      the pages of a sealed index that did not come with its head
unsealing  how far the sealed index of a NAR was asked for
peek       kind and size of a root node from the first kilobytes of its NAR
elsewhere  the same NAR from another place, when one lake fails
fetcher    the chunks that the cache does not have, each fetched once
keeping    how what was fetched gets into the cache
restream   reading without a cache: verified chunks out of a stream that is read again
contents   the bytes of a NAR whose index is known
accessor   NarAccessor: read(NarOffset, length) on one NAR
store      Store: from a store path to its verified NarInfo and its NarAccessor
closure    all NarInfos that a closed View needs
ahead/     what is fetched before anybody asks for it, and when
"""
