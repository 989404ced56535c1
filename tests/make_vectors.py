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

from deepcomp_jax import _tree, codings, container
from deepcomp_jax._types import Compressed, Dense, Shared, Structure
from deepcomp_jax.bits import put_varint as varint

COMMON = len(_tree.COMMON)  # strings that no file holds
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
        yield f"zeros-{size}", shared(np.zeros(size, np.uint8), 0)
    for size in (31, 32, 255, 256):  # int64: bodies of 248, 256, 2040, 2048 bytes
        values = np.arange(size, dtype=np.int64)
        yield f"inline-{size}", Compressed(0, (Dense(values),), ())
    for k in (1, 2, 255, 256, 257):
        narrow = np.min_scalar_type(k)
        yield f"codebook-{k}", shared(np.arange(k + 1).astype(narrow), k)
    for gap_bits in (1, 2, 8, 16):
        for zeros in range((1 << gap_bits) - 2, (1 << gap_bits) + 1):
            labels = np.zeros(zeros + 2, np.uint8)
            labels[[0, -1]] = 1
            yield f"gap-{gap_bits}-{zeros}", shared(labels, 1, "relative", gap_bits)
    for size in (2**15 - 1, 2**15, 2**15 + 1):
        labels = (np.arange(size) * np.arange(size) % 11 % 3 + 1).astype(np.uint8)
        yield f"lanes-{size}", shared(labels, 3, "relative", 8)
    yield from _codings()
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    two = (Shared(labels, 0), leaf, Shared(labels[::-1] % 3, 1))
    four = (*two, Shared(labels % 2, 0))
    yield "codebooks", Compressed([0, 1, 2, 3], four, (book(3), book(2, "float64")))
    yield from _codebooks()
    block: Structure = {"bias": 0, "kernel": 1}
    again: Structure = {"bias": 2, "kernel": 3}
    odd: Structure = [{"bias": 4}, {"bias": 5}, {"w": 6}, [], []]
    tree = {"params": {"conv1": block, "conv2": again}, "rest": odd}
    yield "repeated", Compressed(tree, (leaf,) * 7, ())


def _codings() -> Iterator[tuple[str, Compressed]]:
    """Every coding of labels, of few and of many weights, dense and sparse."""
    rng = np.random.default_rng(0)
    shapes = {"0d": (), "1d": (50,), "2d": (7, 9), "4d": (3, 3, 4, 5)}
    for name in codings.ALL:
        for label, shape in shapes.items():
            kept = rng.random(shape) < 0.4
            labels = np.where(kept, rng.integers(1, 6, shape), 0).astype(np.uint8)
            yield f"{name}-{label}", shared(labels, 5, name)
    yield "density-no-weight", shared(np.zeros((4, 4), np.uint8), 3, "density")
    yield "dense-1024", shared(np.arange(1024, dtype=np.uint16), 1023, "dense")
    yield "density-1025", shared(np.arange(1025, dtype=np.uint16), 1024, "density")
    # Rows and columns of very different density, so that they have classes.
    rows, columns = np.arange(60)[:, None], np.arange(80)
    dense = (rows % 6 < 2) & (columns % 5 < 3)
    labels = np.where(
        rng.random((60, 80)) < np.where(dense, 0.7, 0.01),
        # Indices of other frequencies where it is dense, so that there are two tables.
        np.where(dense, rng.integers(1, 5, (60, 80)), rng.integers(5, 9, (60, 80))),
        0,
    ).astype(np.uint8)
    yield "density-classes", shared(labels, 8, "density")
    far = np.zeros((100, 400), np.uint8)  # gaps with low bits, and escapes
    far[0, [3, 4]] = far[0, 5] = far[99, 399] = 1
    yield "density-escapes", shared(far, 1, "density")
    yield "relative-low-bits", shared(far, 1, "relative")
    many = np.where(rng.random(40_000) < 0.3, rng.integers(1, 4, 40_000), 0)
    yield "dense-lanes", shared(many.astype(np.uint8), 3, "dense")
    yield "density-lanes", shared(many.astype(np.uint8), 3, "density")


def _codebooks() -> Iterator[tuple[str, Compressed]]:
    """Codebooks in every dtype, as grids and in narrower dtypes."""
    grid = np.array([-2.0, -1.0, 1.0, 2.0, 3.0]) * 0.375
    holes = np.array([-3.0, 1.0, 2.0, 7.0]) * 0.375
    labels = np.arange(4, dtype=np.uint8)
    for dtype in container.DTYPES[9:13]:
        for name, entries in (("grid", grid), ("holes", holes)):
            found = (entries.astype(dtype),)
            leaves = (Shared(labels, 0),)
            yield f"{name}-{dtype}", Compressed({"w": 0}, leaves, found)
    for name, step in (("float16", 1 / 3), ("bfloat16", 1e20), ("float32", 1 + 1e-7)):
        entries = np.array([-1, 2.5, 7.25]).astype(np.float32) * np.float32(step)
        narrow = entries.astype(container.DTYPES[9 if name == "float16" else 10])
        kept = entries if name == "float32" else narrow.astype(np.float32)
        leaves = (Shared(labels, 0),)
        yield f"stored-as-{name}", Compressed({"w": 0}, leaves, (kept,))


def book(k: int, dtype: str = "float32") -> np.ndarray:
    """A codebook of k entries around zero, which is left out."""
    entries = np.arange(k) - k // 2
    return (entries + (entries >= 0)).astype(dtype)


def shared(
    labels: np.ndarray, k: int, coding: str | None = None, gap_bits: int | None = None
) -> Compressed:
    """A network of one leaf."""
    leaf = Shared(labels, 0, coding, gap_bits)
    return Compressed({"w": 0}, (leaf,), (book(k),))


def _nest(depth: int) -> Structure:
    return [_nest(depth - 1)] if depth else 0


# ---- invalid ------------------------------------------------------------------------

NONE, LEAF = b"\x01", b"\x00"
HALVES = b"\x99"  # a codebook of float16, stored as such
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
        entries = (0x3C00 + np.arange(k, dtype="<u2")).tobytes()
        books = b"\1" + HALVES + varint(2 * k) + entries
    leaves = layout + varint(len(body))
    if len(body) < 256:
        return header(tree=LEAF, books=books, leaves=leaves + body) + more
    return header(tree=LEAF, books=books, leaves=leaves) + body + crc(body) + more


def vector(dtype: int, size: int, coding: int, book: bytes = b"") -> bytes:
    """The layout of a leaf of one dimension."""
    return bytes([dtype + 16 * coding, 1]) + varint(size) + book


def labels(coding: int, size: int, book: bytes = b"\0") -> bytes:
    """The layout of a float16 leaf of labels, of one dimension."""
    return vector(9, size, coding, book)


RAW, SPARSE, PACKED, RELATIVE, DENSE, DENSITY = range(6)
ZERO, SECOND = bytes.fromhex("0110"), bytes.fromhex("020010")  # one symbol: 0, 1
GAPS = b"\5\0"  # of 5 bits and no low bits


def invalid() -> Iterator[tuple[str, bytes]]:
    """The smallest inputs found that break one clause."""
    yield from _invalid_front()
    yield from _invalid_tree()
    yield from _invalid_codebooks()
    yield from _invalid_layouts()
    yield from _invalid_sections()
    yield from _invalid_streams()
    yield from _invalid_labels()


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
    yield "C3-no-tree", front(b"\0")
    yield "C6-node-missing", front(b"\0\x03\x01")


def _invalid_tree() -> Iterator[tuple[str, bytes]]:
    def keys(*raw: bytes, tree: bytes) -> bytes:
        return header(strings=varint(len(raw)) + b"".join(raw), tree=tree)

    def none_of(key: int) -> bytes:
        return b"\x0a" + varint(key) + NONE

    first, second = varint(2 * COMMON), varint(2 * COMMON + 2)
    yield "C7-not-utf-8", keys(b"\0\1\xff", tree=none_of(2 * COMMON))
    yield "C7-cut-utf-8", keys(b"\0\1\xc3", tree=none_of(2 * COMMON))
    both = b"\x12" + first + NONE + second + NONE
    yield "C8-descending", keys(b"\0\1b", b"\0\1a", tree=both)
    yield "C8-twice", keys(b"\0\1a", b"\1\0", tree=both)
    yield "C9-prefix-too-short", keys(b"\0\1a", b"\0\2ab", tree=both)
    yield "C9-prefix-too-long", keys(b"\0\1a", b"\2\1b", tree=both)
    long = b"\0" + varint(1025) + b"x" * 1025
    yield "C10-1025-bytes", keys(long, tree=none_of(2 * COMMON))
    yield "C12-unused", keys(b"\0\1a", tree=NONE)
    yield "C13-kind-6", header(tree=b"\6")
    yield "C13-leaf-with-size", header(tree=b"\x08")
    yield "C13-repeated-root", header(tree=b"\5")
    yield "C13-repeated-nothing", header(tree=b"\x0b\5")
    yield "C14-no-string", header(tree=none_of(2 * COMMON))
    yield "C15-integers-descend", header(tree=b"\x12\3" + NONE + b"\1" + NONE)
    yield "C15-integer-twice", header(tree=b"\x12\3" + NONE + b"\3" + NONE)
    last = keys(b"\0\1a", tree=b"\x12" + first + NONE + b"\1" + NONE)
    yield "C15-integer-last", last
    yield "C15-common-strings", header(tree=b"\x12\0" + NONE + b"\2" + NONE)
    yield "C16-depth-65", header(tree=b"\x0b" * 64 + b"\3")
    empty = b"\1\1\0\0"  # layout of int8[0], and the size of its body
    strings = b"\3" + b"\0\1a" + b"\1\2/b" + b"\0\1b"
    third = varint(2 * COMMON + 4)
    # {"a": {"b": _}, "a/b": _}
    same = b"\x12" + first + b"\x0a" + third + LEAF + second + LEAF
    yield "C18-slash", header(strings=strings, tree=same, leaves=empty * 2)
    same = b"\x12\1" + LEAF + first + LEAF  # {0: _, "0": _}
    digit = header(strings=b"\1\0\0010", tree=same, leaves=empty * 2)
    yield "C18-integer-and-string", digit
    long = varint(512) + b"x" * 512
    deep = (b"\x0a" + first) * 2 + b"\2"  # 512 + 1 + 512 bytes
    yield "C19-1025-bytes", header(strings=b"\1\0" + long, tree=deep)
    # Lists of nine, of which eight repeat the one before: 9 ** 6 nodes.
    many = b"\x4b" * 6 + NONE * 9 + b"\5" * 8 * 5
    yield "C17-many-nodes", header(tree=many)
    yield "C11-common-string", keys(b"\0\6params", tree=none_of(2 * COMMON))


def _invalid_codebooks() -> Iterator[tuple[str, bytes]]:
    def used(codebook: bytes, dtype: int = 9) -> bytes:
        layout = vector(dtype, 0, PACKED, b"\0") + b"\0"
        return header(tree=LEAF, books=b"\1" + codebook, leaves=layout)

    yield "C20-codebook", used(b"\x9f\0")
    yield "C20-storage", used(b"\xf9\0")
    yield "C21-int32", used(b"\x33\0", 3)
    yield "C21-complex64", used(b"\xdd\0", 13)
    yield "C21-wider-storage", used(b"\xb9\0")
    yield "C21-other-half", used(b"\xa9\0")
    yield "C22-32769-entries", used(HALVES + varint(2**16 + 2))
    for name, entries in {
        "nan": "007e",
        "infinity": "007c",
        "zero": "0000",
        "negative-zero": "0080",
        "twice": "003c003c",
        "descending": "003d003c",
    }.items():
        raw = bytes.fromhex(entries)
        yield f"C23-{name}", used(HALVES + varint(len(raw)) + raw)
    for name, step in {"nan": "007e", "zero": "0000", "negative": "00bc"}.items():
        grid = varint(5) + bytes.fromhex(step) + b"\1\1"
        yield f"C23-grid-{name}", used(HALVES + grid)
    overflow = varint(7) + bytes.fromhex("ff7b") + b"\0\3"  # 65504 times 1 to 3
    yield "C23-grid-overflow", used(HALVES + overflow)
    yield "C25-unused", header(books=b"\1" + HALVES + b"\0")
    books = b"\2" + (HALVES + b"\0") * 2
    leaves = b"".join(vector(9, 0, PACKED, book) + b"\0" for book in (b"\1", b"\0"))
    yield "C25-order", header(tree=b"\x13" + LEAF * 2, books=books, leaves=leaves)
    small = varint(5) + ONE
    yield "C24-too-few-steps", used(HALVES + small + b"\1\0")
    yield "C24-too-far", used(HALVES + small + varint(2**16 + 1) + b"\0")
    yield "C24-bits-missing", used(HALVES + small + b"\2\2" + b"\x80")
    yield "C24-bits-after", used(HALVES + small + b"\2\2" + b"\x88")


def _invalid_layouts() -> Iterator[tuple[str, bytes]]:
    yield "C20-leaf", leaf(b"", vector(15, 0, RAW))
    yield "C26-33-dimensions", leaf(b"\1", b"\1" + b"\x21" + b"\1" * 33)
    huge = b"\x0c\2" + varint(2**60) + varint(0)  # float64
    yield "C27-too-large", leaf(b"", huge)
    yield "C28-coding-6", leaf(b"", vector(1, 0, 6))
    yield "C29-no-codebook", leaf(b"", labels(PACKED, 0))
    yield "C30-other-dtype", leaf(b"", vector(11, 0, PACKED, b"\0"), k=0)
    yield "C31-4-gib", leaf(GAPS + b"\0\0", vector(0, 2**32 + 1, SPARSE))
    yield "C32-trailing-byte", leaf(b"", vector(1, 0, RAW), more=b"\0")
    yield "C32-cut", leaf(bytes(256), vector(1, 256, RAW))[:-1]
    yield "C32-no-leaves", header() + b"\0"


def _invalid_sections() -> Iterator[tuple[str, bytes]]:
    good = leaf(bytes(256), vector(1, 256, RAW))
    yield "C33-body", good[:-5] + b"\6" + good[-4:]
    yield "C33-checksum", good[:-1] + bytes([good[-1] ^ 0x80])
    yield "C34-raw", leaf(b"\0", vector(1, 0, RAW))
    yield "C34-sparse", leaf(GAPS + b"\0\0", vector(1, 0, SPARSE))
    yield "C34-packed", leaf(b"\0", labels(PACKED, 0), k=0)
    yield "C35-too-short", leaf(b"\1", vector(2, 1, RAW))
    yield "C35-too-long", leaf(b"\1\2", vector(1, 1, RAW))
    one = GAPS + b"\1" + ZERO
    yield "C35-no-value", leaf(one, vector(1, 1, SPARSE))
    yield "C35-two-values", leaf(one + b"\1\1", vector(1, 1, SPARSE))
    yield "C36-raw", leaf(b"\2", vector(0, 1, RAW))
    yield "C36-sparse", leaf(one + b"\2", vector(0, 1, SPARSE))
    yield "C37-zero", leaf(one + b"\0", vector(1, 1, SPARSE))


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
        body = b"\x08\0" + varint(count) + bytes.fromhex(stream)
        yield name, leaf(body, vector(1, 64, SPARSE))
    above, filler = bytes.fromhex("030110"), SECOND  # symbols 2 and 1
    yield "G5-above-the-filler", leaf(b"\1\0\1" + above, vector(1, 64, SPARSE))
    yield "G6-filler-at-the-end", leaf(b"\1\0\1" + filler, vector(1, 64, SPARSE))


def _invalid_labels() -> Iterator[tuple[str, bytes]]:
    """Faults in bodies of labels and their rANS streams; the codings of chapter L."""
    yield "C3-no-count", leaf(GAPS, vector(1, 1, SPARSE))
    yield "L1-packed", leaf(b"\0\0", labels(PACKED, 1), k=1)
    yield "L1-packed-cut", leaf(b"", labels(PACKED, 1), k=1)
    yield "L1-no-widths", leaf(b"\5", vector(1, 1, SPARSE))
    one = GAPS + b"\1" + ZERO
    yield "L1-relative", leaf(one + ZERO + b"\0", labels(RELATIVE, 1), k=1)
    yield "L2-packed", leaf(b"\x81", labels(PACKED, 1), k=1)
    yield "L4-packed", leaf(b"\xc0", labels(PACKED, 1), k=2)
    yield "L4-above", leaf(one + SECOND, labels(RELATIVE, 1), k=1)
    yield "L4-empty-codebook", leaf(one + ZERO, labels(RELATIVE, 1), k=0)
    yield "L5-no-bits", leaf(b"\0\0\0\0", vector(1, 1, SPARSE))
    yield "L5-17-bits", leaf(b"\x11\0\0\0", vector(1, 1, SPARSE))
    yield "L5-33-low-bits", leaf(b"\5\x21\0\0", vector(1, 1, SPARSE))
    yield "L6-two-gaps", leaf(GAPS + b"\2" + ZERO + b"\1\1", vector(1, 1, SPARSE))
    most = GAPS + varint(2**63 - 1) + ZERO
    yield "L6-63-bits", leaf(most, vector(1, 1, SPARSE))
    yield "L7-sparse", leaf(GAPS + b"\1" + SECOND + b"\1", vector(1, 1, SPARSE))
    far = GAPS + b"\1" + SECOND + ZERO
    yield "L7-relative", leaf(far, labels(RELATIVE, 1), k=1)
    # Eight weights that are all kept, in one group: gaps of 0 are certain to 12 bits.
    group = b"\0\x08\0"
    stream = b"\1\0" + bytes(2) + b"\1\0"  # one lane without words, in its last state
    yield "L3-code-65", leaf(group + b"\x41" + stream, labels(DENSITY, 8), k=1)
    yield "L3-no-symbol", leaf(group + b"\0\0" + stream, labels(DENSITY, 8), k=1)
    yield "L3-dense", leaf(b"\0\0" + stream, labels(DENSE, 1), k=1)
    yield "L6-group", leaf(b"\0\x09\0", labels(DENSITY, 8), k=1)
    yield "L8-second-axis", leaf(b"\2\0", labels(DENSITY, 8), k=1)
    yield "L9-one-class", leaf(b"\1" + ZERO + b"\0", labels(DENSITY, 8), k=1)
    classes = b"\1" + b"\x40" + b"\x0f" * 3 + b"\x0e\x10"  # all are 63
    yield "L9-64-groups", leaf(classes, labels(DENSITY, 8), k=1)
    yield "L10-first-group", leaf(b"\0\x08\1\1" + stream, labels(DENSITY, 8), k=1)
    yield "L10-no-group", leaf(b"\0\x08\2\1" + stream, labels(DENSITY, 8), k=1)
    yield "L3-no-entries", leaf(group + b"\1" + stream, labels(DENSITY, 8), k=0)
    yield "L17-dense", leaf(stream, labels(DENSE, 1), k=1024)
    yield "L17-density", leaf(group, labels(DENSITY, 8), k=1025)
    yield from _invalid_rans()


def _invalid_rans() -> Iterator[tuple[str, bytes]]:
    """Faults in the stream of one label of which two are as likely."""
    model = bytes.fromhex("fff0")  # two codes of 63
    streams = {
        "E2-not-shortest": "81 00 00",
        "E3-no-lanes": "00 00",
        "E3-two-lanes-for-seven-bytes": "02 00 00 00 00 01 00",
        "E4-33-bits": "02 00 21" + "00 00 01 00" * 2,
        "E5-index": "02 00 01 20" + "00 00 01 00" * 2,
        "E6-no-state": "01 00",
        "E6-no-words": "01 01 00 00 01 00",
        "E7-state": "01 00 ff ff 00 00",
        "E8-state": "01 00 00 00 03 00",
        "E8-words": "01 01 00 00 02 00 00 00",
    }
    for name, stream in streams.items():
        yield name, leaf(model + bytes.fromhex(stream), labels(DENSE, 1), k=1)


def main() -> None:
    """Replaces the folder."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for path, data in vectors().items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_bytes(data)


if __name__ == "__main__":
    main()
