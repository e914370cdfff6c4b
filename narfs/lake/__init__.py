"""The lake is the only wing that talks to object storage; nothing of httpx, ssl or OSError leaves it.

=================  =========================================================================================
settings           LakeSettings: patience, bounds, credentials
store_url          StoreUrl: which lake, and which names lie inside it; pure
transport          what every transport can do: whole small objects, streams, ranges, uploads
file               FileTransport: a lake in a directory
http               HttpTransport: a lake behind HTTP, over ``client``, ``exchange`` and ``body``
client             the httpx client: certificates, netrc, proxies
exchange           one question and its answer; the door where httpx's exceptions are translated
body               ResumableBody: one object's bytes over as many answers as it takes
answer             what an answer means: absent or in trouble, where its bytes belong; pure
retry              whether and when to ask again; pure
content_encoding   bounded decoding of small objects; pure
pieces             network chunks joined into pieces of up to 1 MiB; pure
binary_cache       BinaryCache: one lake in the words of Nix
upstreams          several lakes by priority; what is absent, and for how long
=================  =========================================================================================
"""
