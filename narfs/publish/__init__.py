"""What is written into lakes. Reading them is the engine's; a blob that is copied goes through its passes too.

push        local files into a lake; sources what arguments mean by them, nix_store what Nix says of them
sealer      sealing lakes that exist; shard one machine's part of it
seal_target where seals go: in place, into a lake of indexes, or with copies into another lake
indexing    the index of a blob as it is, from one pass over it
shipment    all paths of a push on their way: batches, bounds, and narinfos in order
sending     one path, or a batch of small ones, into a lake up to its narinfo
packing     what a lake gets of one NAR; nar_dump that of local files
packers     the processes that pack small paths; packer is such a process
sealing     the sealed layout, several threads to a blob
progress    how far it is
references  which trees refer to which paths, and what they are called then
"""
