"""The engine joins lake and cache and holds the one nursery. Readers own no work: they wait for it, with a deadline.

means      what the rooms here work with and count
trust      which narinfos count
ingest     one forward pass over a blob: NAR pieces, digests, tree, frames; no I/O
worker     the process that runs ingests; parsing and hashing never share the mount's interpreter lock
workers    the pool of such processes, seen from the event loop
wire       what the loop and the workers say to each other
backoff    what failed last, and until when nobody tries again
flights    single flight: work that belongs to nobody who waits for it
passes     a Pass: lake stream → worker → cache, and what may be known of it before it ends
ranges     the parts of a blob that can be fetched by themselves
sealed     the sealed index of a path, fetched and checked
peek       kind and size of a root node from the first kilobytes of its NAR
elsewhere  the same NAR from another place, when one lake fails
fetcher    the chunks that the cache does not have, each fetched once
restream   reading without a cache: verified chunks out of a stream that is read again
accessor   NarAccessor: read(NarOffset, length) on one NAR
store      Store: from a store path to its verified NarInfo and its NarAccessor
closure    all NarInfos that a closed View needs
push       local files into a lake; push_sources what arguments mean by them, nix_store what Nix says of them
sealing    the sealed layout, several threads to a blob
sealer     sealing lakes that exist, in place or into another
publishing one path into a lake, in an order that survives a crash
packing    one pass over a NAR that is published: survey or pack; nar_dump that of local files
references which trees refer to which paths, and what they are called then
"""
