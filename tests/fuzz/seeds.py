"""Well-formed inputs that fuzzing begins with, and what targets need to be given them: keys, a sealed NAR."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zstandard
from nacl.signing import SigningKey

from narfs.cache.pins import Pin, PinnedPath
from narfs.formats.erofs.image import FIRST_PART_BLOCK
from narfs.formats.erofs.part import Layout
from narfs.formats.frames import xz_frames
from narfs.formats.ls import to_ls
from narfs.formats.profile import Place, Profile, Read
from narfs.formats.profile_object import write_profile
from narfs.formats.seal import PROLOGUE_BYTES, head_end, open_head, seal
from narfs.formats.signature import PublicKeys, SecretKey
from narfs.formats.worker_protocol import CLIENT_MAGIC, Operation, integer, string
from tests.support.elf import elf_file
from tests.support.listings import listing_of
from tests.support.packing import pack
from tests.support.sealing import seal_tree
from tests.support.trees import ODD_NAMES, File, Symlink, Tree, dump

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from narfs.formats.listing import NarListing

_GOLDEN = Path(__file__).parents[1] / "golden"

TREE: Final[Tree] = {
    b"bin": {b"sh": File(b"#!/bin/sh\n" * 9, executable=True)},
    b"empty": File(b""),
    b"link": Symlink(b"bin/sh"),
    b"share": {b"%d" % number: File(b"x" * number) for number in range(9)},
}
SMALL: Final[Tree] = {b"a": File(b"12345678" * 40), b"b": Symlink(b"a")}
_half = SigningKey(bytes(range(32)))
KEY: Final = SecretKey("fuzz.test-1", bytes(_half) + bytes(_half.verify_key))
KEYS: Final = PublicKeys((KEY.public,))
SEALED: Final = seal_tree("fuzz", TREE, frame_bytes=512)
OBJECT: Final = seal(SEALED.index, SEALED.narinfo, [KEY], page_chunks=2)
HEAD: Final = open_head(OBJECT, SEALED.narinfo, KEYS)


def add_checksum(data: bytes) -> bytes:
    """Make the checksum right that a NarIndex ends with."""
    return data + hashlib.sha256(data).digest()


def cut(data: bytes, parts: int) -> list[bytes]:
    """Take an input apart into that many: two bytes of length before each but the last."""
    found = []
    for _ in range(parts - 1):
        length = int.from_bytes(data[:2], "little")
        found.append(data[2 : 2 + length])
        data = data[2 + length :]
    return [*found, data]


def joined(*parts: bytes) -> bytes:
    *first, last = parts
    return b"".join(len(part).to_bytes(2, "little") + part for part in first) + last


def _buffers(listing: NarListing) -> bytes:
    nodes, names, children = listing.buffers
    return joined(bytes(nodes), bytes(children), bytes(names))


def _packed(tree: Tree) -> list[bytes]:
    ways = ("none", "xz", "zstd", "gzip", "bzip2", "br", "lz4")
    nar = dump(tree)
    return [bytes([number]) + pack(nar, way) for number, way in enumerate(ways)] + [b"\2" + pack(nar, "zstd", 100)]


def _head_bytes() -> bytes:
    text = int.from_bytes(OBJECT[12:16], "little")
    return zstandard.ZstdDecompressor().decompress(OBJECT[PROLOGUE_BYTES + text : head_end(OBJECT)])


def _worker_protocol() -> bytes:
    greeting = integer(CLIENT_MAGIC) + integer(1 << 8 | 35) + integer(0) + integer(0)
    asked = b"".join(
        integer(number) + string(SEALED.narinfo.path.path.encode())
        for number in (Operation.IS_VALID_PATH, Operation.QUERY_PATH_INFO)
    )
    return greeting + asked


_PROFILE = Profile(
    (
        Read(0, Place("hello-2.12", 0, b"bin/hello"), 0, 3, 0),
        Read(7, Place("glibc-2.40", 1, b"lib/libc.so.6"), 2, 9, 1),
    )
)
FRAME_BYTES: Final = 500
_XZ = pack(bytes(4 * FRAME_BYTES), "xz", FRAME_BYTES)
_DRV = (
    'Derive([("out","/nix/store/00000000000000000000000000000000-a","","")],[("/nix/store/'
    '11111111111111111111111111111111-b.drv",["out"])],["/nix/store/22222222222222222222222222222222-c"],'
    '"x86_64-linux","/bin/sh",["-c"],[("a","b\\n")])'
)
_NARINFO = SEALED.narinfo.sign(KEY)
_PIN = Pin(_NARINFO.path.base_name, (PinnedPath("file:///x", b"", _NARINFO, 1.5),))
_DEEP = b"[" * 3000
_SHOWN = {"place": "/p", "image": "/i", "slab": 1, "ranges": [[4096, 2, "name", "ff"]]}
_VIEW = {"name": "v", "closures": [_NARINFO.path.path, "../r"], "at": "/mnt", "settings": {}, "lease_s": 3.5}


def _xz_block(blob: bytes) -> bytes:
    frames = xz_frames(blob, len(blob))
    assert frames is not None
    return blob[slice(*frames.blob_bounds[:2])]


def _fuse(opcode: int, body: bytes) -> bytes:
    return (
        b"".join(
            part.to_bytes(size, "little") for part, size in ((40 + len(body), 4), (opcode, 4), (7, 8), (1, 8), (0, 16))
        )
        + body
    )


def _http(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join(("HTTP/1.1 " + lines[0], *lines[1:], "", "")).encode() + body


def seeds() -> Mapping[str, Sequence[bytes]]:
    """Give what each target begins with."""
    listing = listing_of(TREE)
    part = Layout(listing).part(FIRST_PART_BLOCK, 0)
    return {
        "nar": [dump(TREE), dump(SMALL), dump(File(b"x")), dump({name: File(b"") for name in ODD_NAMES})],
        "listing": [_buffers(listing), _buffers(listing_of(SMALL))],
        "erofs": [_buffers(listing), _buffers(listing_of(SMALL))],
        "erofs_part": [part, Layout(listing_of(File(b"1"))).part(FIRST_PART_BLOCK, 0, shared_block=FIRST_PART_BLOCK)],
        "narinfo": [_NARINFO.to_bytes(), *(file.read_bytes() for file in _GOLDEN.glob("narinfo/*.narinfo"))],
        "ls": [to_ls(listing), to_ls(listing_of(File(b"x")))],
        "index": [SEALED.index.to_bytes()[:-32]],
        "frame_table": [SEALED.index.to_bytes()[-800:-32]]
        + ([] if SEALED.index.frames is None else [SEALED.index.frames.to_bytes()]),
        "frame": [b"\0" + zstandard.compress(bytes(FRAME_BYTES)), b"\1" + _xz_block(_XZ)],
        "xz_index": [_XZ, _XZ[-100:]],
        "compression": _packed(SMALL),
        "sealed": [OBJECT, (_GOLDEN / "seal/golden.narfs").read_bytes()],
        "sealed_head": [_head_bytes()],
        "sealed_page": [OBJECT[slice(*HEAD.page_span(0))]],
        "signature": [str(KEY.public).encode(), KEY.to_text().encode(), str(_NARINFO.signatures[0]).encode()],
        "cache_info": [b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n"],
        "derivation": [_DRV.encode()],
        "worker_protocol": [_worker_protocol()],
        "nix_conf": [
            b"include x\n!include y\nsubstituters = https://a # c\ntrusted-public-keys = " + str(KEY.public).encode(),
            b"include deep\n!include y\nextra-substituters = b\nnetrc-file = /n\nstore = auto\n",
        ],
        "base32": [b"0sg9f58l1jj88w6pdrfdpj5x9b1zrwszk84j81zvby36q9whhhqa", b"00000000000000000000000000000000"],
        "digest": [
            b"sha256:" + b"0" * 52,
            b"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            b"sha1:" + b"0" * 40,
        ],
        "store_path": [
            _NARINFO.path.path.encode(),
            _NARINFO.path.base_name.encode(),
            b"/nix/store/" + b"e" * 32 + b"-a",
        ],
        "elf": [
            elf_file(interpreter=b"/nix/store/x/ld.so", needed=[b"libc.so.6"], runpath=b"/a:/b"),
            elf_file(needed=[b"l"], rpath=b"$ORIGIN", wide=False, order=">"),
        ],
        "script": [
            b"#! /bin/sh -e\nexec /nix/store/" + b"0" * 32 + b"-a/bin/b\n",
            b"import os, sys.path\nfrom . import (a,\n b)\ntry:\n  import c\nif TYPE_CHECKING:\n  import d\n",
        ],
        "profile": [_PROFILE.to_bytes()],
        "profile_object": [
            write_profile("p", _PROFILE, [KEY]),
            (_GOLDEN / "profile/golden.narfs-profile").read_bytes(),
        ],
        "fuse_protocol": [
            _fuse(26, bytes([7, 0, 0, 0, 41, 0, 0, 0]) + b"\0\0\2\0" + b"\xff" * 8),
            _fuse(1, b"slab-1\0"),
            _fuse(15, bytes(40)),
        ],
        "http": [
            _http("200 OK", "Content-Length: 5", 'ETag: "x"', body=b"hello"),
            _http("200 OK", "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
            _http("100 Continue") + _http("206 Partial", "Content-Range: bytes 0-4/9", "Content-Length: 5"),
            _http("429 x", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", "Connection: close"),
            _http("301 x", "Location: /there?a=b"),
        ],
        "content_encoding": [
            joined(b"gzip", pack(b"x" * 500, "gzip")),
            joined(b"br", pack(b"x" * 500, "br")),
            joined(b"zstd, gzip", pack(pack(b"x" * 500, "zstd"), "gzip")),
        ],
        "place_body": [
            b'\xce\0bytes 0-9/10\n10\n"tag"\n120',
            b"\xa0\1bytes */0\n\n\n",
            b"\xc8\0\n10\n\nSat, 1 Jan 2000 00:00:00 GMT",
        ],
        "store_url": [
            joined(b"https://u:p@cache.test:8443/a?priority=3&trusted=1", b"nar/x.nar.xz"),
            joined(b"s3://bucket/prefix?endpoint=http://h:9000&region=eu&scheme=http", b"%2e%2e/x"),
            joined(b"file:///srv/lake", b"../x"),
            joined(b"/srv/lake?trusted=1", b"https://elsewhere/x"),
        ],
        "s3_error": [
            (
                b"Generic S3 error: Error performing GET http://h:1/b in 1ms - non-2xx status code: 404 "
                b"<Error><Code>NoSuchKey</Code><Message>m &amp; n</Message></Error>\n\nDebug source:\nx"
            ),
            b"Server returned non-2xx status code: 416 : <ActualObjectSize>12</ActualObjectSize>",
            b'Error performing PUT http://[::1/k in 1ms - error: "InvalidCertificate( Expired" kind: Timeout',
        ],
        "control": [
            b'{"version": 1, "operation": "view-create", "arguments": {"name": "x"}}\n',
            b'{"version": 1, "operation": "status"}',
        ],
        "view_spec": [json.dumps(_VIEW).encode()],
        "shown": [json.dumps(_SHOWN).encode(), _DEEP, b'{"place": "", "image": "", "slab": Infinity, "ranges": []}'],
        "pin": [_PIN.to_bytes(), _PIN.to_bytes().replace(b"1.5", b"9" * 400), _DEEP],
        "text": ["narfs \x1b[31m\u202e".encode(), b"\xff\xfe\r\n"],
    }
