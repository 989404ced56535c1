"""Writes the test vectors of the file format: `python -m tests.make_vectors`.

Valid ones come from the library and are described in a JSON file beside each. Invalid
ones are put together byte by byte; their names begin with the clause that they break.
"""

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deepcomp_jax import container
from deepcomp_jax._types import Compressed, Dense, Shared, Structure
from deepcomp_jax.bits import put_varint as varint

FOLDER = Path(__file__).parent.parent / "specs" / "vectors"


def vectors() -> dict[str, bytes]:
    """The contents of every vector, by its path in the folder."""
    files: dict[str, bytes] = {}
    for name, network in valid():
        files[f"valid/{name}.dcz"] = container.dumps(network)
        description = json.dumps(describe(network), indent=1) + "\n"
        files[f"valid/{name}.json"] = description.encode()
    for name, data in invalid():
        files[f"invalid/{name}.dcz"] = data
    return files


def describe(network: Compressed) -> dict[str, object]:
    """What a reader must find: structure as a literal, leaves by their SHA-256."""
    leaves: list[dict[str, object]] = []
    for leaf in network.leaves:
        values = container.values(leaf, network.codebooks)
        leaves.append(
            {
                "dtype": values.dtype.name,
                "shape": list(values.shape),
                "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
            }
        )
    return {"structure": repr(network.structure), "leaves": leaves}


# ---- valid --------------------------------------------------------------------------


def valid() -> Iterator[tuple[str, Compressed]]:
    """Networks at the boundaries of the format, by rules."""
    leaf = Dense(np.float32([1, 2]))
    yield "no-leaves", Compressed({"a": {}, "b": [(), None]}, (), ())
    yield "only-none", Compressed(None, (), ())
    yield "root-leaf", Compressed(0, (Dense(np.array(2.5)),), ())
    tree: Structure = {0: 0, 7: 1, "a": [2, (3, None, {})], "b": ((), [])}
    yield "containers", Compressed(tree, (leaf,) * 4, ())
    keys: Structure = {
        key: i for i, key in enumerate(["", "a", "ab", "b/c", "é", "層"])
    }
    yield "keys", Compressed(keys, (leaf,) * 6, ())
    yield "path-1024", Compressed({"x" * 511: {"x" * 512: 0}}, (leaf,), ())
    yield "depth-64", Compressed(_nest(64), (leaf,), ())
    yield "dimensions-32", Compressed(0, (Dense(np.ones((1,) * 32, np.int8)),), ())
    raw = tuple(Dense(np.arange(1, 4).astype(dtype)) for dtype in container.DTYPES)
    yield "dtypes", Compressed(list(range(len(raw))), raw, ())
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324])
    odd_leaves = tuple(Dense(odd.astype(d)) for d in container.DTYPES[9:15])
    yield "not-finite", Compressed(list(range(6)), odd_leaves, ())
    for size in (0, 1, 2, 127, 128, 129):
        values = np.arange(size, dtype=np.int16)
        yield f"raw-{size}", Compressed(0, (Dense(values),), ())
        sparse = np.where(values % 50 == 3, -values, 0).astype(np.int16)
        yield f"sparse-{size}", Compressed(0, (Dense(sparse),), ())
        yield f"zeros-{size}", shared(np.zeros(size, np.uint8), 0, 5)
    for k in (1, 2, 255, 256, 257):
        narrow = np.min_scalar_type(k)
        yield f"codebook-{k}", shared(np.arange(k + 1).astype(narrow), k, 8)
    for gap_bits in (1, 2, 8, 16):
        for zeros in range((1 << gap_bits) - 2, (1 << gap_bits) + 1):
            labels = np.zeros(zeros + 2, np.uint8)
            labels[[0, -1]] = 1
            yield f"gap-{gap_bits}-{zeros}", shared(labels, 1, gap_bits)
    for size in (2**15 - 1, 2**15, 2**15 + 1):
        labels = (np.arange(size) * np.arange(size) % 11 % 3 + 1).astype(np.uint8)
        yield f"lanes-{size}", shared(labels, 3, 8)
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    two = (Shared(labels, 0, 5), leaf, Shared(labels[::-1] % 3, 1, 3))
    four = (*two, Shared(labels % 2, 0, 8))
    yield "codebooks", Compressed([0, 1, 2, 3], four, (book(3), book(2, "float64")))


def book(k: int, dtype: str = "float32") -> np.ndarray:
    """A codebook of k entries around zero, which is left out."""
    entries = np.arange(k) - k // 2
    return (entries + (entries >= 0)).astype(dtype)


def shared(labels: np.ndarray, k: int, gap_bits: int) -> Compressed:
    """A network of one leaf."""
    return Compressed({"w": 0}, (Shared(labels, 0, gap_bits),), (book(k),))


def _nest(depth: int) -> Structure:
    return [_nest(depth - 1)] if depth else 0


# ---- invalid ------------------------------------------------------------------------

NONE, LEAF = b"\x01", b"\x00"
FLOAT16, FLOAT32 = b"\x09", b"\x0b"
ONE = b"\x00\x3c"  # 1.0 as float16


def crc(data: bytes) -> bytes:
    """The checksum of a header or a body."""
    return zlib.crc32(data).to_bytes(4, "little")


def front(fields: bytes) -> bytes:
    """A file without sections."""
    start = b"\x89DCZ\x01" + varint(len(fields)) + fields
    return start + crc(start)


def header(
    *, strings: bytes = b"\0", tree: bytes = NONE, books: bytes = b"\0", leaves=b""
) -> bytes:
    """A header; by default of a tree that is None."""
    return front(strings + tree + books + leaves)


def leaf(
    body: bytes, layout: bytes, *, k: int | None = None, more: bytes = b""
) -> bytes:
    """A file of one leaf; k: the entries of a float16 codebook, 1.0, 1.001 and on."""
    books = b"\0"
    if k is not None:
        entries = b"".join(bytes([i, 0x3C]) for i in range(k))
        books = b"\1" + FLOAT16 + varint(k) + entries
    leaves = layout + varint(len(body) + 4)
    return header(tree=LEAF, books=books, leaves=leaves) + body + crc(body) + more


def vector(dtype: int, size: int, coding: bytes) -> bytes:
    """The layout of a leaf of one dimension."""
    return bytes([dtype, 1]) + varint(size) + coding


RAW, SHARED, SPARSE = b"\0", b"\1\0\5", b"\2\5"  # with codebook 0, gaps of 5 bits
ZERO, SECOND = bytes.fromhex("0110"), bytes.fromhex("020010")  # one symbol: 0, 1


def invalid() -> Iterator[tuple[str, bytes]]:
    """The smallest inputs found that break one clause."""
    yield from _invalid_front()
    yield from _invalid_tree()
    yield from _invalid_codebooks()
    yield from _invalid_layouts()
    yield from _invalid_sections()
    yield from _invalid_streams()


def _invalid_front() -> Iterator[tuple[str, bytes]]:
    good = header()
    yield "C1-empty", b""
    yield "C1-cut", good[:3]
    yield "C1-other-magic", b"\x09" + good[1:]
    yield "C2-cut", good[:4]
    yield "C2-version-0", good[:4] + b"\0" + good[5:]
    yield "C2-version-2", good[:4] + b"\2" + good[5:]
    yield "C3-cut", good[:5]
    yield "C3-cut-within", good[:5] + b"\x80"
    yield "C3-not-shortest", good[:5] + b"\x83\x00" + good[6:]
    yield "C3-ten-bytes", good[:5] + b"\xff" * 9 + b"\1" + good[6:]
    yield "C3-count-not-shortest", header(strings=b"\x80\0")
    yield "C4-no-checksum", good[:-4]
    yield "C4-cut", good[:-1]
    yield "C4-size-of-63-bits", good[:5] + b"\xff" * 8 + b"\x7f" + good[6:]
    yield "C5-checksum", good[:-1] + bytes([good[-1] ^ 1])
    yield "C5-field", good[:7] + bytes([good[7] ^ 1]) + good[8:]
    yield "C6-fields-too-short", front(b"\0\1\0\0")
    yield "C6-no-tree", front(b"\0")
    yield "C6-node-missing", front(b"\0\x03\x01")


def _invalid_tree() -> Iterator[tuple[str, bytes]]:
    def keys(*raw: bytes, tree: bytes) -> bytes:
        return header(strings=varint(len(raw)) + b"".join(raw), tree=tree)

    none_of = lambda key: b"\2\1" + varint(key) + NONE  # noqa: E731
    yield "C7-not-utf-8", keys(b"\0\1\xff", tree=none_of(0))
    yield "C7-cut-utf-8", keys(b"\0\1\xc3", tree=none_of(0))
    both = b"\2\2\0" + NONE + b"\2" + NONE
    yield "C8-descending", keys(b"\0\1b", b"\0\1a", tree=both)
    yield "C8-twice", keys(b"\0\1a", b"\1\0", tree=both)
    yield "C9-prefix-too-short", keys(b"\0\1a", b"\0\2ab", tree=both)
    yield "C9-prefix-too-long", keys(b"\0\1a", b"\2\1b", tree=both)
    yield "C10-1025-bytes", keys(b"\0" + varint(1025) + b"x" * 1025, tree=none_of(0))
    yield "C11-unused", keys(b"\0\1a", tree=NONE)
    yield "C12-kind-5", header(tree=b"\5")
    yield "C13-no-string", header(tree=none_of(0))
    yield "C14-integers-descend", header(tree=b"\2\2\3" + NONE + b"\1" + NONE)
    yield "C14-integer-twice", header(tree=b"\2\2\3" + NONE + b"\3" + NONE)
    yield "C14-integer-last", keys(b"\0\1a", tree=b"\2\2\0" + NONE + b"\1" + NONE)
    yield "C15-depth-65", header(tree=b"\3\1" * 64 + b"\3\0")
    empty = b"\1\1\0\0\4"  # layout of int8[0], and its section
    strings = b"\3" + b"\0\1a" + b"\1\2/b" + b"\0\1b"
    same = b"\2\2" + b"\0\2\1\4" + LEAF + b"\2" + LEAF  # {"a": {"b": _}, "a/b": _}
    pair = empty * 2
    yield "C16-slash", header(strings=strings, tree=same, leaves=pair) + bytes(8)
    same = b"\2\2" + b"\1" + LEAF + b"\0" + LEAF  # {0: _, "0": _}
    digit = header(strings=b"\1\0\0010", tree=same, leaves=pair) + bytes(8)
    yield "C16-integer-and-string", digit
    long = varint(512) + b"x" * 512
    deep = b"\2\1\0" * 2 + b"\2\0"  # 512 + 1 + 512 bytes
    yield "C17-1025-bytes", header(strings=b"\1\0" + long, tree=deep)


def _invalid_codebooks() -> Iterator[tuple[str, bytes]]:
    def used(codebook: bytes, dtype: int = 9) -> bytes:
        layout = vector(dtype, 0, SHARED) + b"\4"
        return header(tree=LEAF, books=b"\1" + codebook, leaves=layout) + bytes(4)

    yield "C18-codebook", used(b"\x0f\0")
    yield "C19-int32", used(b"\3\0", 3)
    yield "C19-complex64", used(b"\x0d\0", 13)
    yield "C20-32769-entries", used(FLOAT16 + varint(2**15 + 1))
    for name, entries in {
        "nan": "007e",
        "infinity": "007c",
        "zero": "0000",
        "negative-zero": "0080",
        "twice": "003c003c",
        "descending": "003d003c",
    }.items():
        raw = bytes.fromhex(entries)
        yield f"C21-{name}", used(FLOAT16 + varint(len(raw) // 2) + raw)
    yield "C22-unused", header(books=b"\1" + FLOAT16 + b"\0")
    books = b"\2" + (FLOAT16 + b"\0") * 2
    leaves = b"".join(
        vector(9, 0, b"\1" + number + b"\5") + b"\4" for number in (b"\1", b"\0")
    )
    order = header(tree=b"\3\2" + LEAF * 2, books=books, leaves=leaves)
    yield "C22-order", order + bytes(8)


def _invalid_layouts() -> Iterator[tuple[str, bytes]]:
    yield "C18-leaf", leaf(b"", vector(15, 0, RAW))
    yield "C23-33-dimensions", leaf(b"\1", b"\1" + b"\x21" + b"\1" * 33 + RAW)
    huge = b"\x0c\2" + varint(2**60) + varint(0) + RAW  # float64
    yield "C24-too-large", leaf(b"", huge)
    yield "C25-coding-3", leaf(b"", vector(1, 0, b"\3"))
    yield "C26-no-codebook", leaf(b"", vector(9, 0, SHARED))
    yield "C27-other-dtype", leaf(b"", vector(11, 0, SHARED), k=0)
    yield "C28OLD-0-bits", leaf(b"", vector(1, 0, b"\2\0"))
    yield "C28OLD-17-bits", leaf(b"", vector(1, 0, b"\2\x11"))
    yield "C29-4-gib", leaf(b"\0\0", vector(0, 2**32 + 1, SPARSE))
    yield "C30-trailing-byte", leaf(b"", vector(1, 0, RAW), more=b"\0")
    yield "C30-cut", leaf(b"", vector(1, 0, RAW))[:-1]
    yield "C30-no-leaves", header() + b"\0"
    tiny = header(tree=LEAF, leaves=vector(1, 0, RAW) + b"\3")
    yield "C31OLD-3-bytes", tiny + bytes(3)


def _invalid_sections() -> Iterator[tuple[str, bytes]]:
    good = leaf(b"\7", vector(1, 1, RAW))
    yield "C32-body", good[:-5] + b"\6" + good[-4:]
    yield "C32-checksum", good[:-1] + bytes([good[-1] ^ 0x80])
    yield "C33-raw", leaf(b"\0", vector(1, 0, RAW))
    yield "C33-sparse", leaf(b"\0\0", vector(1, 0, SPARSE))
    yield "C33-shared", leaf(b"\0\0\0", vector(9, 0, SHARED), k=0)
    yield "C34-too-short", leaf(b"\1", vector(2, 1, RAW))
    yield "C34-too-long", leaf(b"\1\2", vector(1, 1, RAW))
    yield "C35-raw", leaf(b"\2", vector(0, 1, RAW))
    yield "C35-sparse", leaf(b"\1" + ZERO + b"\2", vector(0, 1, SPARSE))
    yield "L6-two-gaps", leaf(b"\2" + ZERO + b"\1\1", vector(1, 1, SPARSE))
    yield "L6-63-bits", leaf(varint(2**63 - 1) + ZERO, vector(1, 1, SPARSE))
    yield "L7-sparse", leaf(b"\1" + SECOND + b"\1", vector(1, 1, SPARSE))
    yield "L7-shared", leaf(b"\1" + SECOND + ZERO, vector(9, 1, SHARED), k=1)
    yield "L4-above", leaf(b"\1" + ZERO + SECOND, vector(9, 1, SHARED), k=1)
    yield "L4-empty-codebook", leaf(b"\1" + ZERO + ZERO, vector(9, 1, SHARED), k=0)
    yield "C36-zero", leaf(b"\1" + ZERO + b"\0", vector(1, 1, SPARSE))
    yield "L1-no-value", leaf(b"\1" + ZERO, vector(1, 1, SPARSE))
    yield "L1-two-values", leaf(b"\1" + ZERO + b"\1\1", vector(1, 1, SPARSE))
    yield "L1-shared", leaf(b"\1" + ZERO * 2 + b"\0", vector(9, 1, SHARED), k=1)
    yield "C3-no-count", leaf(b"", vector(1, 1, SPARSE))


def _invalid_streams() -> Iterator[tuple[str, bytes]]:
    """Faults in the stream of gaps of 64 values; symbols are those of chapter H."""
    streams = {
        "H7-not-shortest": (1, "81 00 10"),
        "H8-no-alphabet": (1, "00"),
        "H8-alphabet-of-nothing": (0, "01 10"),
        "H8-65537-symbols": (1, "81 80 04 10"),
        "H9-unused-at-the-end": (1, "03 11 00"),
        "H10-left-over": (2, "02 12 01 02 00"),
        "H10-too-many": (2, "03 11 10 01 02 00"),
        "H10-one-symbol-of-two-bits": (1, "01 20"),
        "H11-table": (3, "01 11"),
        "H13-no-lanes": (2, "02 11 00 02 40"),
        "H13-short-lanes": (2, "02 11 02 01 00 40"),
        "H14-33-bits": (32, "02 11 02 10 21"),
        "H16-lane-too-long": (2, "02 11 01 03 40"),
        "H17-cut": (5, "03 12 20 01 07"),
    }
    for name, (count, stream) in streams.items():
        body = varint(count) + bytes.fromhex(stream)
        yield name, leaf(body, vector(1, 64, b"\2\x08"))
    above, filler = b"\1" + bytes.fromhex("030110"), b"\1" + SECOND  # symbols 2 and 1
    yield "G5-above-the-filler", leaf(above, vector(1, 64, b"\2\1"))
    yield "G6-filler-at-the-end", leaf(filler, vector(1, 64, b"\2\1"))


def main() -> None:
    """Replaces the folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for path, data in vectors().items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_bytes(data)


if __name__ == "__main__":
    main()
