"""docs/lake-format.md is enough: a reader written from it alone, without narfs, reads the golden files."""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path
from typing import NamedTuple

import zstandard
from nacl.signing import VerifyKey

GOLDEN = Path(__file__).parent.parent / "golden" / "seal"
ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"
FIELDS = "<QQQIII8s32sQQ"
CUT, FRAMED = 1, 2


class Index(NamedTuple):
    nodes: list[tuple[int, int, int, int, int]]
    children: list[int]
    names: bytes
    nar_bounds: list[int]
    blob_bounds: list[int]
    digests: list[bytes]


def nix32(digest: bytes) -> str:
    value = int.from_bytes(digest, "little")
    return "".join(ALPHABET[value >> 5 * place & 31] for place in reversed(range(52)))


def unplane(planes: bytes, width: int) -> list[bytes]:
    count = len(planes) // width
    return [planes[row::count] for row in range(count)]


def read_index(data: bytes, narinfo: dict[str, str], keys: dict[str, bytes]) -> Index:
    magic, version, text_length, head_length = struct.unpack_from("<8sIII", data)
    assert (magic, version) == (b"NARFSEAL", 1)
    text = data[20 : 20 + text_length].decode()
    stored = data[20 + text_length : 20 + text_length + head_length]
    statement, *signatures = text.splitlines()
    assert statement == ";".join(
        (
            *("narfs-index-1", narinfo["StorePath"], narinfo["NarHash"], narinfo["NarSize"]),
            f"sha256:{nix32(hashlib.sha256(stored).digest())}",
        )
    )
    name, _, signature = signatures[0].partition(":")
    VerifyKey(keys[name]).verify(statement.encode(), base64.b64decode(signature))
    head = zstandard.ZstdDecompressor().decompress(stored)
    nodes, names_bytes, chunks, _, page_chunks, flags, compression, file_hash, file_size, bounds = struct.unpack_from(
        FIELDS, head
    )
    assert flags == CUT | FRAMED
    assert bounds == 0
    assert compression.rstrip(b"\0").decode() == narinfo["Compression"]
    assert f"sha256:{nix32(file_hash)}" == narinfo["FileHash"]
    assert file_size == int(narinfo["FileSize"])
    pages = -(-chunks // page_chunks)
    at, sections = struct.calcsize(FIELDS), []
    for length in (28 * nodes, 4 * (nodes - 1), names_bytes, 32 * pages, 8 * pages, 8 * pages):
        sections.append(head[at : at + length])
        at += length
    assert at == len(head)
    records, ids, names, page_digests, nar_starts, blob_starts = sections
    nar_bounds, blob_bounds, digests = [0], [0], []
    at = 20 + text_length + head_length
    for page in range(pages):
        rows = min(page_chunks, chunks - page * page_chunks)
        body = data[at : at + 40 * rows]
        at += 40 * rows
        assert hashlib.sha256(body).digest() == page_digests[32 * page : 32 * page + 32]
        assert struct.unpack_from("<Q", nar_starts, 8 * page) == (nar_bounds[-1],)
        assert struct.unpack_from("<Q", blob_starts, 8 * page) == (blob_bounds[-1],)
        for row in range(rows):
            nar_bounds.append(nar_bounds[-1] + struct.unpack_from("<I", body, 4 * row)[0])
            blob_bounds.append(blob_bounds[-1] + struct.unpack_from("<I", body, 4 * (rows + row))[0])
            digests.append(body[8 * rows + 32 * row : 8 * rows + 32 * row + 32])
    assert at == len(data)
    table = [struct.unpack("<QQIII", record) for record in unplane(records, 28)]
    children = [struct.unpack("<I", child)[0] for child in unplane(ids, 4)]
    return Index(table, children, names, nar_bounds, blob_bounds, digests)


def read_tree(index: Index, nar: bytes, node: int = 0) -> object:
    first, second, _, begin, bits = index.nodes[node]
    kind, executable = bits >> 8 & 3, bool(bits & 1024)
    if kind == 0:
        return nar[first : first + second], executable
    if kind == 2:
        target = begin + (bits & 255)
        return index.names[target : target + second]
    start, count = first & 0xFFFF_FFFF, second & 0xFFFF_FFFF
    tree = {}
    for child in index.children[start : start + count]:
        _, _, parent, name, child_bits = index.nodes[child]
        assert parent == node
        tree[index.names[name : name + (child_bits & 255)]] = read_tree(index, nar, child)
    return tree


def test_a_reader_made_from_the_document_alone_reads_the_golden_lake() -> None:
    lines = (GOLDEN / "golden.narinfo").read_text().splitlines()
    narinfo = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert narinfo["X-Narfs-Index"] == f"{narinfo['StorePath'][11:43]}.narfs"
    name, _, key = (GOLDEN / "index.pub").read_text().strip().partition(":")
    index = read_index((GOLDEN / "golden.narfs").read_bytes(), narinfo, {name: base64.b64decode(key)})
    blob = (GOLDEN / "golden.nar.zst").read_bytes()
    nar = b""
    for number, digest in enumerate(index.digests):
        frame = blob[index.blob_bounds[number] : index.blob_bounds[number + 1]]
        contents = zstandard.ZstdDecompressor().decompress(frame)
        assert len(nar) == index.nar_bounds[number]
        assert hashlib.sha256(contents).digest() == digest
        nar += contents
    assert f"sha256:{nix32(hashlib.sha256(nar).digest())}" == narinfo["NarHash"]
    tool = (bytes(range(256)) * 30, True)
    assert read_tree(index, nar) == {b"bin": {b"tool": tool}, b"empty": (b"", False), b"link": b"bin/tool"}
