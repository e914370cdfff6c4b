"""What is written into lakes. Reading them is the engine's; a blob that is copied goes through its passes too.

push        local files into a lake; sources what arguments mean by them, nix_store what Nix says of them
sealer      sealing lakes that exist; shard one machine's part of it
seal_target where seals go: in place, into a lake of indexes, or with copies into another lake
indexing    the index of a blob as it is, from one pass over it
parcel      one path into a lake, in an order that survives a crash
sealing     the sealed layout, several threads to a blob
packing     one pass over a NAR that is published: survey or pack; nar_dump that of local files
references  which trees refer to which paths, and what they are called then
"""
