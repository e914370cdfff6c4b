"""The lake is the only wing that talks to object storage; nothing of httpx, obstore, ssl or OSError leaves it.

=================  =========================================================================================
settings           LakeSettings: patience, bounds, credentials
store_url          StoreUrl: which lake, and which names lie inside it; pure
account            Account: what was fetched for somebody, how much that may be, and how fast
line               Line: bytes a second, shared by weight
identity           what makes two lakes the same for those who must not see what others see
transport          what every transport can do: whole small objects, streams, ranges, uploads
file               FileTransport: a lake in a directory
http               HttpTransport: a lake behind HTTP, over ``client``, ``exchange`` and ``body``
s3                 S3Transport: a lake in a bucket, over obstore
s3_address         which bucket, at which server; pure
s3_identity        whose requests: the chain of AWS credentials
s3_answer          what obstore's failures mean; pure
client             LakeClient: whom to ask directly and whom through httpx; certificates, netrc, proxies
through            Through: asking through httpx; the only module with it, loaded when it is needed
direct             DirectClient: what is only read, over links and h11
link               Link: one connection, TCP or TLS
response           an answer whose body is still to be read
exchange           one question and its answer; the door where what clients raise is translated
body               ResumableBody: one object's bytes over as many answers as it takes
answer             what an answer means: absent or in trouble, where its bytes belong; pure
retry              whether and when to ask again; pure
content_encoding   bounded decoding of small objects; pure
pace               whether a body still comes; pure
pieces             network chunks joined into pieces of up to 1 MiB; pure
several            several requests at once, one failure for all
binary_cache       BinaryCache: one lake in the words of Nix
outage             Outage: whether it is down, found out once for all who want something of it
index_stores       lakes of sealed indexes of other lakes' paths
upstreams          several lakes by priority; what is absent, and for how long
=================  =========================================================================================
"""
