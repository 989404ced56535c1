"""The invalid test vectors: the smallest inputs found that break one clause each."""

from collections.abc import Iterator

import numpy as np

from deepcomp_jax.format.leaf_header import CODINGS
from deepcomp_jax.streams import huffman, rans
from deepcomp_jax.streams.bits import put_varint as varint
from tests.support import vector_parts as parts
from tests.support.vector_parts import (
    AGAIN,
    BFLOAT16,
    BOOL,
    ELSEWHERE,
    EMPTY,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    GROUPED,
    INT8,
    INT16,
    LEAF,
    NONE,
    ORDER0,
    PACKED,
    PLANES,
    RAW,
    RELATIVE,
    SECOND,
    SPARSE,
    ZERO,
    book,
    container,
    front,
    grid,
    header,
    layout,
    leaf,
    string,
)

ONE = bytes.fromhex("003c")  # 1.0 as float16


def invalid() -> Iterator[tuple[str, bytes]]:
    """All invalid files."""
    yield from _front()
    yield from _strings()
    yield from _tree()
    yield from _codebooks()
    yield from _layouts()
    yield from _copies()
    yield from _metadata()
    yield from _elsewhere()
    yield from _parts()
    yield from _scales()
    yield "C46-65-leaves", many_classes(65)
    yield from _bodies()
    yield from _planes()
    yield from _gaps()
    yield from _huffman()
    yield from _models()
    yield from _groups()
    yield from _rans()


# ---- the header ---------------------------------------------------------------------


def _front() -> Iterator[tuple[str, bytes]]:
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
    yield "C3-no-tree", front(b"\0")
    yield "C4-no-checksum", good[:-4]
    yield "C4-cut", good[:-1]
    yield "C4-size-of-63-bits", good[:5] + b"\xff" * 8 + b"\x7f" + good[6:]
    yield "C5-checksum", good[:-1] + bytes([good[-1] ^ 1])
    yield "C5-field", good[:7] + bytes([good[7] ^ 1]) + good[8:]
    yield "C59-fields-too-short", front(b"\0\1\0\0")
    yield "C6-no-string", front(b"\1\x50abc")
    yield "C6-no-leaf", front(b"\0\0\0")
    yield "C6-behind-metadata", header(metadata=parts.pairs(b"a", b"b") + b"\0")
    yield "C6-no-body", header(tree=LEAF, leaves=bytes([INT8, 1, 2, 2]) + b"\1")


def _keys(*raw: bytes, tree: bytes) -> bytes:
    return header(strings=varint(len(raw)) + b"".join(raw), tree=tree)


def _strings() -> Iterator[tuple[str, bytes]]:
    # Strings of a file are numbered from 16 on, and a key is twice the number.
    one = container(2, varint(32) + NONE)
    both = container(2, varint(32) + NONE, varint(34) + NONE)
    yield "C7-not-utf-8", _keys(string(0, b"\xff"), tree=one)
    yield "C7-cut-utf-8", _keys(string(0, b"\xc3"), tree=one)
    yield "C8-descending", _keys(string(0, b"b"), string(0, b"a"), tree=both)
    yield "C8-twice", _keys(string(0, b"a"), string(1, b""), tree=both)
    first = string(0, b"a")
    yield "C9-first", _keys(string(1, b"a"), tree=one)
    yield "C9-prefix-too-short", _keys(first, string(0, b"ab"), tree=both)
    yield "C9-prefix-too-long", _keys(first, string(2, b"b"), tree=both)
    first = string(0, b"x" * 15)
    yield "C9-prefix-of-14", _keys(first, string(14, b"xy"), tree=both)
    yield "C10-1025-bytes", _keys(string(0, b"x" * 1025), tree=one)
    yield "C12-unused", _keys(string(0, b"a"), tree=NONE)
    yield "C11-kernel", _keys(string(0, b"kernel"), tree=one)
    yield "C11-after-another", _keys(string(0, b"v"), string(1, b"ar"), tree=both)


def _tree() -> Iterator[tuple[str, bytes]]:
    yield "C13-kind-6", header(tree=b"\6")
    yield "C13-leaf-of-1", header(tree=b"\x08", leaves=EMPTY)
    yield "C13-none-of-1", header(tree=b"\x09")
    yield "C13-repeated-root", header(tree=AGAIN)
    yield "C13-nothing-to-repeat", header(tree=container(3, AGAIN))
    yield "C13-nothing-before-in-dictionary", header(tree=container(2, b"\1" + AGAIN))
    inner = container(3, NONE, container(3, AGAIN))
    yield "C13-repeats-beyond-its-container", header(tree=inner)
    yield "C13-repetition-of-1", header(tree=container(3, NONE, b"\x0d"))
    yield "C14-no-string", header(tree=container(2, varint(32) + NONE))
    none = [varint(key) + NONE for key in (3, 1)]
    yield "C15-integers-descend", header(tree=container(2, *none))
    yield "C15-integer-twice", header(tree=container(2, none[0], none[0]))
    a_last = container(2, varint(32) + NONE, none[1])
    yield "C15-integer-last", _keys(string(0, b"a"), tree=a_last)
    # "kernel" is string 2 and "bias" is string 3, but "bias" is before "kernel".
    by_number = container(2, b"\4" + NONE, b"\6" + NONE)
    yield "C15-in-order-of-number", header(tree=by_number)
    yield "C16-depth-65", header(tree=b"\x0b" * 64 + b"\3")
    strings = b"\3" + string(0, b"a") + string(1, b"/b") + string(0, b"b")
    inner = varint(32) + container(2, varint(36) + LEAF)
    same = container(2, inner, varint(34) + LEAF)  # {"a": {"b": _}, "a/b": _}
    yield "C18-slash", header(strings=strings, tree=same, leaves=EMPTY * 2)
    same = container(2, b"\1" + LEAF, varint(32) + LEAF)  # {0: _, "0": _}
    digit = header(strings=b"\1" + string(0, b"0"), tree=same, leaves=EMPTY * 2)
    yield "C18-integer-and-string", digit
    long = b"\1" + string(0, b"x" * 512)
    deep = container(2, varint(32) + container(2, varint(32) + container(2)))
    yield "C19-1025-bytes", header(strings=long, tree=deep)
    half = NONE
    for _ in range(15):
        half = container(3, half, AGAIN)  # 2**16 - 1 nodes in the end
    more = container(3, half, AGAIN, NONE, NONE)
    yield "C17-131073-nodes", header(tree=more)
    yield "C17-262143-nodes", header(tree=container(3, more, AGAIN))


def _codebooks() -> Iterator[tuple[str, bytes]]:
    def used(
        codebook: bytes, dtype: int = FLOAT16, storage: int = FLOAT16, coding=PACKED
    ) -> bytes:
        described = layout(
            (0,), coding, dtype=dtype, codebook=codebook, storage=storage
        )
        return header(tree=LEAF, leaves=described + b"\0")

    empty = book(b"", 0)
    for name, dtype, storage in [
        ("int32", 3, FLOAT16),
        ("complex64", 13, FLOAT32),
        ("bfloat16-as-float16", BFLOAT16, FLOAT16),
        ("float16-as-float32", FLOAT16, FLOAT32),
        ("storage-5", FLOAT64, FLOAT64 + 1),
        ("storage-7", FLOAT64, FLOAT64 + 3),
    ]:
        yield f"C21-{name}", used(empty, dtype, storage)
    for name, coding, storage in [
        ("raw", RAW, FLOAT16), ("sparse", SPARSE, FLOAT16), ("s-2", PACKED, BFLOAT16),
    ]:  # fmt: skip
        yield f"C21-words-{name}", used(b"\0", INT8, storage, coding)
    for name, dtype, raw in [
        ("zero", INT8, "0100"), ("twice", INT8, "020505"), ("uint8", 5, "02ff01"),
        ("int8", INT8, "0201ff"), ("float8-sign", 15, "020180"),
        ("float8-magnitude", 16, "0280ff"),
        ("too-few-bits", INT8, "21" + "0f" * 8 + 24 * "00"),
        ("too-many-bits", INT8, "21" + "7f" + "ff" * 4 + "80" + "01" + 25 * "00"),
        ("bit-of-zero", INT8, "21" + "ff" * 4 + "80" + 27 * "00"),
    ]:  # fmt: skip
        yield f"C54-{name}", used(bytes.fromhex(raw), dtype, FLOAT16)
    yield "C36-codebook", used(b"\1\2", BOOL, FLOAT16)
    yield "C6-words-cut", used(b"\x21" + bytes(30), INT8, FLOAT16)
    yield "C21-raw", used(empty, coding=RAW)
    for coding in (SPARSE, PLANES, ELSEWHERE):
        yield f"C21-{CODINGS[coding]}", used(empty, coding=coding)
    yield "C22-32769-entries", used(book(b"", 2**15 + 1))
    yield "C22-grid-of-32769", used(grid(ONE, (0, 2**15 + 1)))
    flags = b"\xbf" + b"\xff" * (2**12 - 1) + b"\xc0"
    yield "C22-gapped-grid-of-32769", used(grid(ONE, (4, 2**15 - 2), flags))
    largest = grid(ONE, (0, 2**15))
    most = layout((0,), PACKED, dtype=FLOAT32, codebook=largest, storage=FLOAT16)
    tree = varint(8 * 33 + 3) + LEAF + 32 * AGAIN
    yield "C45-33-grids-of-32768", header(tree=tree, leaves=33 * (most + b"\0"))
    for name, entries in {
        "nan": "007e",
        "signalling-nan": "017c",
        "infinity": "007c",
        "zero": "0000",
        "negative-zero": "0080",
        "twice": "003c003c",
        "descending": "003d003c",
    }.items():
        raw = bytes.fromhex(entries)
        yield f"C23-{name}", used(book(raw, len(raw) // 2))
    infinite = book(b"\x80\x7f", 1)
    yield "C23-narrow-infinity", used(infinite, FLOAT32, BFLOAT16)
    for name, step, sizes in [
        ("grid-of-zero", "0000", (0, 1)),
        ("grid-of-negative-step", "00bc", (0, 2)),
        ("grid-of-nan", "007e", (0, 1)),
        ("grid-that-overflows", "ff7b", (0, 2)),
        ("grid-that-rounds-to-one-value", "003c", (0, 2050)),
    ]:
        yield f"C23-{name}", used(grid(bytes.fromhex(step), sizes))
    yield "C22-runs-of-32769", used(parts.runs(ONE, 0, 2**14, 0, 2**14 - 1, count=2))
    yield "C23-runs-that-overflow", used(parts.runs(ONE, 2**18, 0, count=1))
    yield "C24-no-runs", used(parts.runs(ONE, count=0))
    yield "C24-run-before-the-first-place", used(parts.runs(ONE, 2**29 + 1, 0, count=1))
    yield "C24-run-beyond-the-last-place", used(parts.runs(ONE, 2**29 - 2, 1, count=1))
    yield "C24-gap-of-62-bits", used(parts.runs(ONE, 0, 0, 2**62, 0, count=2))
    yield "C24-more-below-than-factors", used(varint(4 * 2 + 1) + ONE + b"\3")
    yield "C24-factor-65537", used(grid(ONE, (0, 2**16 + 1), b""))
    yield "C24-factor-minus-65537", used(grid(ONE, (2**16 + 1, 1), b""))
    yield "C24-factor-of-61-bits", used(grid(ONE, (2**61 - 1, 0), b""))
    yield "C24-no-gap", used(grid(ONE, (1, 2), b"\xe0"))
    yield "C24-no-gap-in-nothing", used(grid(ONE, (0, 0), b""))
    yield "C24-padding", used(grid(ONE, (1, 2), b"\xd0"))


def _layouts() -> Iterator[tuple[str, bytes]]:
    yield "C20-dtype-20", leaf(b"", (0,), RAW, dtype=20)
    yield "C20-dtype-270", leaf(b"", (0,), RAW, dtype=270)
    yield "C6-dtype-cut", header(tree=LEAF, leaves=b"\x0f")
    yield "C28-coding-9", leaf(b"", (0,), 9)
    yield "C28-coding-15-of-a-long-dtype", leaf(b"", (0,), 15, dtype=15)
    yield "C27-too-large", leaf(b"", (2**60, 0), RAW, dtype=12)
    yield "C28-coding-9-with-codebook", leaf(b"", (0,), 9, k=0)
    alone = layout((0,), PACKED, codebook=b"\0") + b"\0"
    yield "C29-no-codebook", header(tree=LEAF, leaves=alone)
    first = layout((0,), PACKED, codebook=book(b"", 0), storage=FLOAT16) + b"\0"
    pair = container(3, LEAF, LEAF)
    following = layout((0,), PACKED, codebook=b"\1") + b"\0"
    yield "C29-next-codebook", header(tree=pair, leaves=first + following)
    yield "C29-later-codebook", header(tree=pair, leaves=alone + first)
    other = layout((0,), PACKED, dtype=FLOAT32, codebook=b"\0") + b"\0"
    yield "C30-other-dtype", header(tree=pair, leaves=first + other)
    integer = layout((0,), PACKED, dtype=INT8, codebook=b"\0") + b"\0"
    yield "C30-integer", header(tree=pair, leaves=first + integer)
    zeros = 129 * [parts.gaps(b"\0", 0)]  # a part for each index of the first axis
    huge = parts.leaf_in_parts(zeros, (129, 2**22), SPARSE, dtype=FLOAT64)
    yield "C31-4-gib", huge
    yield "C32-trailing-byte", leaf(b"", (0,), RAW) + b"\0"
    yield "C32-section-cut", leaf(bytes(1024), (1024,), RAW)[:-1]
    yield "C32-no-section", leaf(bytes(1024), (1024,), RAW)[:-1028]
    yield "C32-no-leaves", header() + b"\0"


def _copies() -> Iterator[tuple[str, bytes]]:
    """Leaves that are the same as none that they may be the same as."""
    tree = container(3, LEAF, LEAF, LEAF)
    for name, leaves in {
        "C55-first-of-itself": parts.copy_of(0) + 2 * EMPTY,
        "C55-of-itself": EMPTY + parts.copy_of(1) + EMPTY,
        "C55-of-a-later-leaf": EMPTY + parts.copy_of(2) + EMPTY,
        "C55-of-a-copy": EMPTY + parts.copy_of(0) + parts.copy_of(1),
        "C55-of-no-leaf": EMPTY + EMPTY + parts.copy_of(3),
        "C55-number-of-67-bits": EMPTY + EMPTY + parts.copy_of(2**67 - 1),
        "C3-copy": EMPTY + EMPTY + b"\x60\x80\0",
        "C3-copy-cut": EMPTY + EMPTY + b"\x60",
        "C6-copy-cut": EMPTY + EMPTY,
        "C59-copy-with-a-size": EMPTY + EMPTY + parts.copy_of(0) + b"\0",
        "C55-of-a-leaf-elsewhere": EMPTY + elsewhere((0,)) + parts.copy_of(1),
    }.items():
        yield name, header(tree=tree, leaves=leaves)
    # Each leaf takes 2**28 bytes, copies too, and decoding a part 2**25.
    tree = varint(8 * 16 + 3) + LEAF + 15 * AGAIN
    body = parts.gaps(b"\0", 0)
    first = layout((2**28,), SPARSE, dtype=BOOL) + 64 * varint(len(body))
    leaves = first + 15 * parts.copy_of(0) + 64 * body
    yield "C31-copies", header(tree=tree, leaves=leaves)


def _metadata() -> Iterator[tuple[str, bytes]]:
    """Strings behind the bodies."""
    for name, metadata in {
        "C59-no-pair": parts.pairs(),
        "C59-keys-twice": parts.pairs(b"a", b"1", b"a", b"2"),
        "C59-keys-descend": parts.pairs(b"b", b"", b"a", b""),
        "C59-longer-key-first": parts.pairs(b"ab", b"", b"a", b""),
        "C59-key-not-utf-8": parts.pairs(b"\xff", b""),
        "C59-value-not-utf-8": parts.pairs(b"", b"\xc3"),
        "C59-surrogate": parts.pairs(b"a", b"\xed\xa0\x80"),
        "C59-without-bodies": parts.EMPTY[-1:],
        "C3-pairs-not-shortest": b"\x81\0" + parts.pairs(b"", b"")[1:],
        "C3-pair-cut": parts.pairs(b"a", b"b")[:-2],
        "C3-pairs-of-63-bits": b"\xff" * 8 + b"\x7f" + parts.pairs(b"", b"")[1:],
        "C6-key-cut": parts.pairs(b"abc", b"")[:-2],
        "C6-value-cut": parts.pairs(b"", b"abc")[:-1],
        "C6-value-of-63-bits": b"\1\0" + b"\xff" * 8 + b"\x7f",
    }.items():
        yield name, header(metadata=metadata)


def elsewhere(shape: tuple[int, ...], dtype: int = INT8) -> bytes:
    """What a leaf says that another file of the set holds."""
    return layout(shape, ELSEWHERE, dtype=dtype)


def _elsewhere() -> Iterator[tuple[str, bytes]]:
    """Files of sets, alone."""
    pair = container(3, LEAF, LEAF)
    yield "C60-one-of-two-leaves", header(tree=pair, leaves=EMPTY + elsewhere((2, 3)))
    yield "C60-float8", header(tree=LEAF, leaves=elsewhere((), 15))
    yield "C60-of-4-gib", header(tree=LEAF, leaves=elsewhere((2**32 + 1,)))
    yield "C27-elsewhere", header(tree=LEAF, leaves=elsewhere((2**62, 2)))
    yield "C59-elsewhere-with-a-size", header(tree=LEAF, leaves=elsewhere((1,)) + b"\0")


def _scales() -> Iterator[tuple[str, bytes]]:
    """Leaves of 2 x 3 values, all of entry 1, with exponents of rows and columns."""
    two, three = bytes(2), bytes(3)
    for name, split in {
        "split-3-of-2": (0, 3), "batch-above-split": (2, 1), "split-31": (0, 31),
        "batch-of-58-bits": (2**57, 1),
    }.items():  # fmt: skip
        yield f"C61-{name}", parts.scaled(two, three, split=split)
    empty = book(b"", 0)
    for name, dtype, storage in [
        ("float64", FLOAT64, FLOAT32), ("int8", INT8, FLOAT16), ("float8", 15, FLOAT16),
        ("bfloat16-as-float16", BFLOAT16, FLOAT16), ("float16-wider", FLOAT16, FLOAT32),
    ]:  # fmt: skip
        described = layout(
            (0,), PACKED, dtype=dtype, codebook=empty, storage=storage, scales=(0, 1)
        )
        yield f"C21-scales-of-{name}", header(tree=LEAF, leaves=described + bytes(3))
    for coding in (RAW, SPARSE, PLANES, ELSEWHERE):
        described = layout((0,), coding, scales=(0, 1))
        data = header(tree=LEAF, leaves=described + bytes(3))
        yield f"C21-scales-{CODINGS[coding]}", data
    described = layout((0,), 9, scales=(0, 1))
    yield "C28-scales-of-coding-9", header(tree=LEAF, leaves=described)
    alone = layout((0,), PACKED, codebook=b"\0", scales=(0, 1))
    yield "C29-scales-without-codebook", header(tree=LEAF, leaves=alone + bytes(3))
    cut = layout((2, 3), PACKED, scales=(0, 1))
    yield "C3-scales-cut", header(tree=LEAF, leaves=cut[:-1])
    yield "C3-scales-not-shortest", header(tree=LEAF, leaves=cut[:-1] + b"\x81\0")
    packed = layout((0,), PACKED, codebook=empty, storage=FLOAT16, scales=(0, 1))
    yield "C3-one-size-of-three", header(tree=LEAF, leaves=packed + b"\0")
    yield "C62-rows-too-long", parts.scaled(three, three)
    yield "C62-columns-too-long", parts.scaled(two, bytes(4))
    yield "C62-of-no-rows", parts.scaled(b"\0", b"", shape=(0, 0))
    yield (
        "C33-exponents",
        parts.scaled(bytes(2000), b"\0", shape=(2000, 1))[:-1] + b"\1",
    )
    yield "V1-rows-cut", parts.scaled(b"\0", three)
    yield "V5-columns-empty", parts.scaled(two, b"")
    yield "V6-rows", parts.scaled(two, b"\2\xff\0", shape=(2, 9))
    for name, dtype, raw, row, column in [
        ("least-entry", FLOAT32, "ffffff00", 0, 0),  # below 2**-125
        ("subnormal-entry", BFLOAT16, "0100", 127, 127),
        ("least-product-with-rows", FLOAT32, "00000001", -1, 8),
        ("least-product", FLOAT32, "00000001", 8, -9),
        ("least-of-float16", FLOAT16, "003c", -100, -100),  # half of the least number
        ("infinite-with-rows", FLOAT32, "0000007f", 8, -8),
        ("infinite", BFLOAT16, "007f", 0, 8),
        ("infinite-in-bfloat16", BFLOAT16, "187f", 6, 0),
        ("infinite-in-float16", FLOAT16, "ff7b", 0, 1),
    ]:
        exponents = (
            np.full(n, e, np.int8).tobytes() for n, e in ((2, row), (3, column))
        )
        book_of = book(bytes.fromhex(raw), 1)
        yield f"C63-{name}", parts.scaled(*exponents, codebook=book_of, dtype=dtype)
    # An exponent for each of 2**40 rows of no columns, and no value.
    rows = layout((2**40, 0), PACKED, codebook=empty, storage=FLOAT16, scales=(0, 1))
    yield "C31-exponents", header(tree=LEAF, leaves=rows + bytes(3))


def _parts() -> Iterator[tuple[str, bytes]]:
    """Leaves of 2**24 + 1 values, in four parts of 2**22 and one of a single value."""
    shape, zero = (2**24 + 1,), parts.gaps(b"\0", 0)
    many = parts.gaps(ZERO, 1100) + 1100 * b"\1"
    far = parts.gaps(SECOND, low_bits=22, low=bytes(3))  # a gap of 2**22
    for name, bodies in {
        "C3-one-size-for-five-parts": [many],
        "C59-six-sizes-for-five-parts": 5 * [zero] + [b""],
        "C35-second-part": [zero, zero + b"\1", *3 * [zero]],
        "C35-last-part": [*4 * [zero], parts.gaps(ZERO)],
        "C37-third-part": [*2 * [zero], parts.gaps(ZERO) + b"\0", *2 * [zero]],
        "L6-more-than-its-part": [*4 * [zero], parts.gaps(ZERO, 2) + b"\1\1"],
        "L7-beyond-its-part": [far + b"\1", *4 * [zero]],
    }.items():
        yield name, parts.leaf_in_parts(bodies, shape, SPARSE)
    # The parts are of shape [1, 2**16, 2**6], and have 2**16 indices with classes each.
    shape = 65, 2**16, 2**6
    yield "C46-65-parts", parts.leaf_in_parts(65 * [b"\2"], shape, GROUPED, k=1)
    data = parts.leaf_in_parts([zero, many, *3 * [zero]], (2**24 + 1,), SPARSE)
    yield "C33-second-part", data[:-1] + bytes([data[-1] ^ 1])


def many_classes(count: int) -> bytes:
    """Leaves of 65536 indices with classes, whose bodies are damaged behind that."""
    first = layout((2**16,), GROUPED, codebook=parts.ones(1), storage=FLOAT16)
    again = layout((2**16,), GROUPED, codebook=b"\0") + b"\1"
    tree = varint(8 * count + 3) + LEAF + (count - 1) * AGAIN
    leaves = first + b"\1" + (count - 1) * again + count * b"\1"
    return header(tree=tree, leaves=leaves)


# ---- bodies -------------------------------------------------------------------------


def _bodies() -> Iterator[tuple[str, bytes]]:
    good = leaf(bytes(1024), (1024,), RAW)
    yield "C33-body", good[:-5] + b"\6" + good[-4:]
    yield "C33-checksum", good[:-1] + bytes([good[-1] ^ 0x80])
    yield "C34-raw", leaf(b"\0", (0,), RAW)
    yield "C34-sparse", leaf(parts.gaps(b"\0", 0), (0,), SPARSE)
    yield "C34-packed", leaf(b"\0", (0,), PACKED, k=1)
    yield "C34-grouped", leaf(b"\0", (0,), GROUPED, k=0)
    yield "C35-too-short", leaf(b"\1", (1,), RAW, dtype=INT16)
    yield "C35-too-long", leaf(b"\1\2", (1,), RAW)
    yield "C35-no-value", leaf(parts.gaps(ZERO), (1,), SPARSE)
    yield "C35-two-values", leaf(parts.gaps(ZERO) + b"\1\1", (1,), SPARSE)
    yield "C36-raw", leaf(b"\2", (1,), RAW, dtype=BOOL)
    yield "C36-sparse", leaf(parts.gaps(ZERO) + b"\2", (1,), SPARSE, dtype=BOOL)
    yield "C37-zero", leaf(parts.gaps(ZERO) + b"\0", (1,), SPARSE)
    zero = parts.gaps(ZERO)
    yield "L1-sparse-of-one-byte", leaf(b"\5", (1,), SPARSE)
    yield "L1-packed-cut", leaf(b"\0", (9,), PACKED, k=1)
    yield "L1-packed-goes-on", leaf(b"\0\0", (8,), PACKED, k=1)
    yield "L1-packed-without-bits", leaf(b"\0", (8,), PACKED, k=0)
    yield "L1-relative-goes-on", leaf(zero + ZERO + b"\0", (1,), RELATIVE, k=1)
    codes, stream = parts.order0([0, 1], 1)
    yield "L1-order0-cut", leaf(codes[:1], (2,), ORDER0, k=1)
    yield "L1-order0-goes-on", leaf(codes + stream + b"\0", (2,), ORDER0, k=1)
    body = parts.grouped([(4, [1], [0])], 1)
    yield "L1-grouped-goes-on", leaf(body + b"\0", (4,), GROUPED, k=1)
    yield "L1-grouped-without-gaps-goes-on", leaf(b"\0\0\0", (4,), GROUPED, k=1)
    yield "L1-grouped-without-table", leaf(b"\0\1", (4,), GROUPED, k=1)
    body = parts.grouped([(16, [1], [0])], 1)  # two low bits
    yield "L1-grouped-without-low-bits", leaf(body, (16,), GROUPED, k=1)
    yield "L2-packed", leaf(b"\1", (7,), PACKED, k=1)
    low = parts.gaps(ZERO, low_bits=1, low=b"\1")
    yield "L2-relative", leaf(low + ZERO, (1,), RELATIVE, k=1)
    yield "L2-frequencies", leaf(codes[:1] + b"\xf1" + stream, (2,), ORDER0, k=1)
    yield "L2-grouped", leaf(body + b"\1", (16,), GROUPED, k=1)
    yield "L4-packed", leaf(b"\xc0", (1,), PACKED, k=2)
    yield "L4-relative", leaf(zero + SECOND, (1,), RELATIVE, k=1)
    yield "L4-empty-codebook", leaf(zero + ZERO, (1,), RELATIVE, k=0)


def _planes() -> Iterator[tuple[str, bytes]]:
    """Faults in bodies of values as planes of bytes: mostly of three uint8."""
    ends, codes, model = b"\2\5", b"\xff\xf0", rans.models(np.array([[2048] * 2]))
    three = rans.Segment(np.array([0, 1, 0], np.uint16), model, np.zeros(3, np.uint8))
    stream = rans.encode([three])
    for name, body in {
        "V1-stored-cut": b"\0\1\2",
        "V1-stored-goes-on": b"\0\1\2\3\4",
        "V1-no-first-symbol": b"\1",
        "V1-one-symbol-goes-on": b"\1\7\0",
        "V1-table-cut": ends + codes[:1],
        "V1-stream-goes-on": ends + codes + stream + b"\0",
        "V5-no-head": b"",
        "V5-not-shortest": b"\x81\0\7",
        "V5-cut": b"\x80",
        "V6-two-symbols-from-255-on": b"\2\xff" + codes + stream,
        "V6-257-symbols": b"\x81\2\0" + bytes([255]) * 193,
        "V6-symbols-of-63-bits": b"\xff" * 8 + b"\x7f\0",
        "V7-first": ends + b"\3\xf0" + stream,
        "V7-last": ends + b"\xfc\0" + stream,
        "V9-table": ends + b"\xff\xf1" + stream,
        "E2-planes": ends + codes,
        "E6-planes": ends + codes + stream[:-1],
        "E8-planes": ends + codes + stream[:-1] + bytes([stream[-1] ^ 1]),
    }.items():
        yield name, leaf(body, (3,), PLANES, dtype=5)
    for name, body in {
        "V1-flags-cut": b"\1\7",
        "V8-no-block": b"\1\7\0",
        "V9-flags": b"\1\7\xe0",
    }.items():
        yield name, leaf(body, (2**14 + 1,), PLANES, dtype=5)  # of two blocks
    second = b"\0\2\xff" + codes
    yield "V5-second-plane-cut", leaf(second[:1], (2,), PLANES, dtype=INT16)
    yield "V6-second-plane", leaf(second, (2,), PLANES, dtype=INT16)
    yield "C34-planes", leaf(b"\0", (0,), PLANES)
    yield "C36-planes-stored", leaf(b"\0\1\2", (2,), PLANES, dtype=BOOL)
    yield "C36-planes-one-symbol", leaf(b"\1\2", (2,), PLANES, dtype=BOOL)


def _gaps() -> Iterator[tuple[str, bytes]]:
    for name, width, low_bits in [
        ("0-bits", 0, 0),
        ("17-bits", 17, 0),
        ("33-low-bits", 5, 33),
    ]:
        body = parts.gaps(ZERO, width=width, low_bits=low_bits) + b"\1"
        yield f"L5-{name}", leaf(body, (1,), SPARSE)
    zero = parts.gaps(ZERO)
    yield "L5-relative", leaf(b"\0" + zero[1:] + ZERO, (1,), RELATIVE, k=1)
    yield "L6-two-gaps", leaf(parts.gaps(ZERO, 2) + b"\1\1", (1,), SPARSE)
    yield "L6-63-bits", leaf(parts.gaps(ZERO, 2**63 - 1), (1,), SPARSE)
    yield "L6-grouped", leaf(b"\0\5", (4,), GROUPED, k=1)
    yield "L6-grouped-63-bits", leaf(b"\0" + varint(2**63 - 1), (4,), GROUPED, k=1)
    yield "L7-sparse", leaf(parts.gaps(SECOND) + b"\1", (1,), SPARSE)
    yield "L7-relative", leaf(parts.gaps(SECOND) + ZERO, (1,), RELATIVE, k=1)
    low = parts.gaps(ZERO, low_bits=1, low=b"\x80") + b"\1"
    yield "L7-low-bits", leaf(low, (1,), SPARSE)
    # 2**16 gaps of 65534 * 2**32 zeros: their sum does not fit 64 bits.
    stream = huffman.encode(np.array([65534], np.uint16))
    many = parts.gaps(stream, 2**16, width=16, low_bits=32, low=bytes(2**18))
    yield "L7-64-bits", leaf(many + bytes(2**16), (2**16,), SPARSE)
    yield "L7-grouped", leaf(parts.grouped([(4, [4], [0])], 1), (4,), GROUPED, k=1)
    # Rows of class 0 and 1, of 2 values each: the gaps of the first fill the second.
    rows = parts.classes([0, 1], None)
    body = parts.grouped([(2, [2], [0]), (2, [0], [0])], 1, front=rows)
    yield "L7-within-its-group", leaf(body, (2, 2), GROUPED, k=1)
    above, filler = bytes.fromhex("030110"), SECOND  # symbols 2 and 1
    body = parts.gaps(above, width=1)
    yield "G5-above-the-filler", leaf(body + b"\1", (64,), SPARSE)
    body = parts.gaps(filler, width=1)
    yield "G6-filler-at-the-end", leaf(body, (64,), SPARSE)
    body = parts.grouped([(64, [32], [])], 1)
    yield "G6-grouped", leaf(body, (64,), GROUPED, k=1)
    body = parts.grouped([(32, [32], []), (32, [0], [0])], 1, front=rows)
    yield "G6-within-its-group", leaf(body + b"\0", (2, 32), GROUPED, k=1)


def _huffman() -> Iterator[tuple[str, bytes]]:
    """Faults in the stream of gaps of 64 values; symbols are those of chapter H."""
    streams = {
        "H7-not-shortest": (1, "81 00 10"),
        "H8-no-alphabet": (1, "00"),
        "H8-alphabet-of-nothing": (0, "01 10"),
        "H8-65537-symbols": (1, "81 80 04 10"),
        "H9-unused-at-the-end": (1, "03 11 00"),
        "H10-left-over": (2, "02 12 04 00"),
        "H10-too-many": (2, "03 11 10 04 00"),
        "H10-one-symbol-of-two-bits": (1, "01 20"),
        "H11-table": (3, "01 11"),
        "H13-no-lanes": (2, "02 11 05 00 40"),
        "H13-one-lane": (2, "02 11 05 01 00 40"),
        "H13-short-lanes": (2, "02 11 03 02 00 40"),
        "H14-33-bits": (32, "02 11 21 02 21"),
        "H16-lane-too-long": (2, "02 11 06 40"),
        "H17-cut": (5, "03 12 20 0e"),
    }
    for name, (count, stream) in streams.items():
        body = parts.gaps(bytes.fromhex(stream), count, width=8)
        yield name, leaf(body, (64,), SPARSE)
    body = parts.gaps(ZERO) + bytes.fromhex("00")
    yield "H8-indices", leaf(body, (1,), RELATIVE, k=1)


def _models() -> Iterator[tuple[str, bytes]]:
    codes, stream = parts.order0([0, 1], 1)
    yield "L3-order0", leaf(bytes(2) + stream, (2,), ORDER0, k=1)
    good = parts.grouped([(4, [1], [0])], 1)  # 00, 01 gap, 01 table
    yield "L3-table-65", leaf(good[:2] + b"\x41" + good[3:], (4,), GROUPED, k=1)
    yield "L3-no-symbol", leaf(good[:2] + b"\0\0" + good[3:], (4,), GROUPED, k=1)
    yield "L3-no-entries", leaf(good, (4,), GROUPED, k=0)
    yield "L3-no-frequencies", leaf(good[:2] + b"\0" + good[3:], (4,), GROUPED, k=0)
    for lanes in (1, 2, 30):
        codes, zeros = parts.order0([0] * 8, 1, lanes=lanes)
        yield f"L21-{lanes}-lanes", leaf(codes + zeros, (8,), ORDER0, k=1)
    yield "L17-order0", leaf(b"\xff" * 768, (4,), ORDER0, k=1024)
    yield "L17-grouped", leaf(b"\0\0", (4,), GROUPED, k=1025)


def _groups() -> Iterator[tuple[str, bytes]]:
    classes = parts.classes([0, 1], None)
    yield "L8-no-axis", leaf(b"\4" + classes[1:], (2, 2), GROUPED, k=1)
    yield "L8-no-dimensions", leaf(b"\1\1\0" + bytes(5), (), GROUPED, k=1)
    for name, said in {
        "one-class": b"\1\0\0",
        "class-16": b"\1\x10\0",
        "class-255": b"\1\xff\0",
    }.items():
        yield f"L9-{name}", leaf(said + bytes(5), (2, 2), GROUPED, k=1)
    five = b"\x1f" + b"\x0f\0" * 4 + b"\3\0" + bytes(5)
    yield "L9-64-groups", leaf(five, (2,) * 5, GROUPED, k=1)
    yield "L18-an-axis-of-65537", leaf(b"\1\1\0" + bytes(7), (65537,), GROUPED, k=1)
    both = b"\3\1\0\1\0" + bytes(7)
    yield "L18-axes-of-65537", leaf(both, (65535, 2), GROUPED, k=1)
    yield "L1-classes", leaf(b"\1", (2, 2), GROUPED, k=1)
    yield "C3-context", leaf(b"\1\1\x80\0" + bytes(5), (2, 2), GROUPED, k=1)
    yield "E6-classes", leaf(classes[:-1], (2, 2), GROUPED, k=1)
    other = classes[:-1] + b"\1"
    yield "E8-classes", leaf(other + b"\0\0", (2, 2), GROUPED, k=1)
    # Whether splits are there would depend on how groups are counted.
    for name, own, more in [("all-of-class-0", [0, 0], 1), ("class-2", [0, 1], 1)]:
        said = parts.classes(own, None, more=more)
        groups = [(4 // (max(own) + 1), [0], [0])] * (max(own) + 1)
        body = parts.grouped(groups, 1, front=said)
        yield f"L20-{name}-without-splits", leaf(body, (2, 2), GROUPED, k=1)
        empty = [(0, [], [])] * more
        body = parts.grouped(groups + empty, 1, front=said)
        yield f"L20-{name}-with-splits", leaf(body, (2, 2), GROUPED, k=1)
    said = parts.classes(own, None, more=more)
    body = parts.grouped([*groups, (0, [], [])], 1, front=said, splits=4, tables=(1, 1))
    yield "L20-table-of-no-group", leaf(body, (2, 2), GROUPED, k=1)
    second = parts.classes([0, 1], [0, 0], more=1)  # up to 2, and up to 1
    body = parts.grouped([(2, [0], [0]), (2, [0], [0])], 1, front=second)
    yield "L20-both-axes", leaf(body, (2, 2), GROUPED, k=1)
    two = [(2, [0], [0]), (2, [0], [0])]
    for name, splits in (("group-0", 1), ("no-group", 4)):
        body = parts.grouped(two, 1, front=classes, splits=splits, tables=(1, 1))
        yield f"L10-{name}", leaf(body, (2, 2), GROUPED, k=1)
    yield "C3-axes", leaf(b"", (4,), GROUPED, k=1)
    yield "C3-gaps", leaf(b"\0\x81\0", (4,), GROUPED, k=1)
    yield "C3-splits", leaf(classes + b"\1\1", (2, 2), GROUPED, k=1)
    yield "C3-count", leaf(b"\5\0", (4,), SPARSE)


def _rans() -> Iterator[tuple[str, bytes]]:
    """Faults in the stream of an order0 body of 8 labels."""
    labels = [0, 1, 1, 0, 1, 1, 1, 0]
    codes, good = parts.order0(labels, 1)  # 00, a state
    _, two = parts.order0(labels, 1, lanes=2)  # 01, 02 lanes, 00 bits, two states
    state = (2**16).to_bytes(4, "little")
    streams = {
        "E2-no-index": b"",
        "E2-not-shortest": b"\x80\0" + good[1:],
        "E2-no-number-of-lanes": b"\1",
        "E3-0-lanes": b"\1\0" + two[2:],
        "E3-1-lane": b"\1\1" + two[2:],
        "E3-more-lanes-than-bytes": two[:7],
        "E3-63-bits": b"\1" + b"\xff" * 8 + b"\x7f" + two[2:],
        "E4-33-bits": two[:2] + b"\x21" + bytes(9) + two[3:],
        "E5-padding": two[:2] + b"\1\1" + two[3:],
        "E6-no-width": b"\xff" * 6 + b"\x7f" + b"\2",
        "E6-no-numbers": b"\1\2\x20" + bytes(7),
        "E6-state-cut": good[:-1],
        "E6-no-state": b"\0",
        "E6-word-cut": b"\2" + state + b"\0",
        "E6-words-of-62-bits": b"\xfe" + b"\xff" * 7 + b"\x7f" + state,
        "E6-many-words-in-each-lane": b"\xff" * 8 + b"\x7f" + two[1:],
        "E7-state-0": b"\2" + bytes(6),
        "E7-state-65535": b"\2\xff\xff" + bytes(4),
        "E7-second-lane": b"\1\2\1\x40" + state + bytes(6),
        "E8-other-state": b"\0\0\0\x10\0",  # 2**20
        "E8-word-left": b"\2\0\0\0\1" + bytes(2),  # state 2**24
        "E8-word-of-the-other-lane": b"\1\2\1\x40" + two[3:7] + state + bytes(2),
    }
    for name, stream in streams.items():
        yield name, leaf(codes + stream, (8,), ORDER0, k=1)
    yield "E8-label-left", leaf(codes + good, (6,), ORDER0, k=1)
    body = parts.grouped([(4, [1], [0])], 2, tables=(0,))
    yield "E8-grouped", leaf(body[:-1] + bytes([body[-1] ^ 1]), (4,), GROUPED, k=2)
    yield "E6-grouped", leaf(body[:-1], (4,), GROUPED, k=2)
