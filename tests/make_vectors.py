"""Writes the test vectors of the file format: `python -m tests.make_vectors`.

Valid ones are described in a JSON file beside each. Most come from the library; those
that it would not write, though they are valid, are put together byte by byte, as are
all invalid ones, whose names begin with the clause that they break.

The format is frozen: a valid file that is committed stays as it is, also if the library
would write it otherwise today, and `frozen.txt` says of each, and of the networks in
the results, which bytes it has and what is read from it. Lines are added to it, and
never changed.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from deepcomp_jax import codings
from deepcomp_jax._types import Compressed, DenseLeaf, Scales, SharedLeaf, Structure
from deepcomp_jax.codings import relative
from deepcomp_jax.format import (
    container,
    file_header,
    leaf_encoding,
    records,
    tree_header,
)
from deepcomp_jax.streams.bits import pack, put_varint
from tests.support import vector_parts as parts
from tests.support.invalid_vectors import invalid

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "specs" / "vectors"
FROZEN = FOLDER / "frozen.txt"
# Keys that have 14, 15 and 16 bytes in common with the one before.
LONG = sorted("x" * size + end for size in (14, 15, 16) for end in "yz")
SHAPES = ((), (1,), (7,), (4, 6), (3, 4, 5), (2, 3, 4, 5), (0, 3))


def vectors() -> dict[str, bytes]:
    """The contents of every vector, by its path in the folder."""
    files: dict[str, bytes] = {}
    for name, data in valid():
        files[f"valid/{name}.dcz"] = data
        described = description(data)
        files[f"valid/{name}.json"] = (json.dumps(described, indent=1) + "\n").encode()
    for name, data in invalid():
        assert f"invalid/{name}.dcz" not in files, name
        files[f"invalid/{name}.dcz"] = data
    return files


def description(data: bytes) -> dict[str, object]:
    """What a reader must find: structure as a literal, leaves by their SHA-256."""
    network = container.loads(data)
    metadata = dict(container.read_header(data).metadata)
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
    found: dict[str, object] = {"structure": repr(network.structure), "leaves": leaves}
    if metadata:
        found["metadata"] = metadata
    return found


def digest(described: dict[str, object]) -> str:
    """The SHA-256 of a description."""
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def content(data: bytes) -> str:
    """The SHA-256 of all that is read from a file."""
    return digest(description(data))


def valid() -> Iterator[tuple[str, bytes]]:
    """All valid files."""
    written = (
        *(*_trees(), *_values(), *_planes(), *_words()),
        *(*_codebooks(), *_labels(), *_streams()),
    )
    for name, network in written:
        yield name, apart(network)
    for name, network in _copies():
        yield name, container.dumps(network)
    yield from _metadata()
    yield from _in_parts()
    yield from _by_hand()
    for name, network in _scales():
        yield name, container.dumps(network)
    yield from _scales_by_hand()


def apart(network: Compressed) -> bytes:
    """A file in which every leaf is stored itself, as readers still accept it."""
    stored: list[file_header.Stored] = []
    sections = b""
    for leaf in network.leaves:
        shared = isinstance(leaf, SharedLeaf)
        codebook = network.codebooks[leaf.codebook] if shared else None
        layout, bodies = leaf_encoding.put("", leaf, codebook)
        small = [body for body in bodies if len(body) < records.SMALL]
        large = [body for body in bodies if len(body) >= records.SMALL]
        stored.append(file_header.Stored(layout, tuple(map(len, bodies)), tuple(small)))
        sections += b"".join(body + parts.crc(body) for body in large)
    tree = tree_header.put(network.structure)
    return file_header.put(tree, network.codebooks, stored) + sections


# ---- written by the library ---------------------------------------------------------


def _trees() -> Iterator[tuple[str, Compressed]]:
    """Structures, and what is in them."""
    leaf = DenseLeaf(np.float32([1, 2]))
    yield "no-leaves", Compressed({"a": {}, "b": [(), None]}, (), ())
    yield "only-none", Compressed(None, (), ())
    yield "root-leaf", Compressed(0, (DenseLeaf(np.array(2.5)),), ())
    tree: Structure = {0: 0, 7: 1, "a": [2, (3, None, {})], "b": ((), [])}
    yield "containers", Compressed(tree, (leaf,) * 4, ())
    keys: Structure = {
        key: i for i, key in enumerate(["", "a", "ab", "b/c", "é", "層"])
    }
    yield "keys", Compressed(keys, (leaf,) * 6, ())
    mixed = ["bias", "biases", "kernel", "kernels", "params", "scale", "zebra"]
    common: Structure = {key: i for i, key in enumerate(mixed)}
    yield "common-strings", Compressed(common, (leaf,) * 7, ())
    layers: Structure = [{"bias": 2 * i, "kernel": 2 * i + 1} for i in range(4)]
    yield "repeated", Compressed({"layers": layers}, (leaf,) * 8, ())
    pairs: Structure = [[[4 * i, 4 * i + 1], [4 * i + 2, 4 * i + 3]] for i in range(3)]
    yield "repeated-in-repeated", Compressed(pairs, (leaf,) * 12, ())
    yield "path-1024", Compressed({"x" * 511: {"x" * 512: 0}}, (leaf,), ())
    yield "depth-64", Compressed(_nest(64), (leaf,), ())
    yield "dimensions-31", Compressed(0, (DenseLeaf(np.ones((1,) * 31, np.int8)),), ())
    longer: Structure = {key: i for i, key in enumerate(LONG)}
    yield "prefixes", Compressed(longer, (leaf,) * len(LONG), ())


def _values() -> Iterator[tuple[str, Compressed]]:
    """Leaves without a codebook."""
    raw = [np.arange(1, 4).astype(dtype) for dtype in container.DTYPES[:15]]
    yield "dtypes", several(*map(DenseLeaf, raw))
    thin = [np.where(np.arange(99) % 30 == 7, 1, 0).astype(a.dtype) for a in raw]
    yield "sparse-dtypes", several(*map(DenseLeaf, thin))
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324])
    floating = container.DTYPES[9:15]
    yield "not-finite", several(*(DenseLeaf(odd.astype(d)) for d in floating))
    padded = np.append(odd, np.zeros(200))
    yield "sparse-not-finite", several(*(DenseLeaf(padded.astype(d)) for d in floating))
    for size in (0, 1, 2, 127, 128, 129, 255, 256):
        values = np.arange(size, dtype=np.int8)
        sparse = np.where(values % 50 == 3, ~values, 0)
        yield f"size-{size}", several(DenseLeaf(values), DenseLeaf(sparse))
    # Bodies of 1023 and 1024 bytes: in the header, and behind it.
    sizes = 1023, 1024, 1025, 1
    bodies = [SharedLeaf(np.arange(8 * n) % 2, 0, "packed") for n in sizes]
    yield "small-and-large", several(*bodies, books=(book(1),))


def _planes() -> Iterator[tuple[str, Compressed]]:
    """Leaves that are smaller by planes: exponents, numbers near zero, one value."""
    rng = np.random.default_rng(0)
    weights = rng.normal(scale=0.02, size=600)
    floating = container.DTYPES[9:15]
    yield "planes-floating", several(*(DenseLeaf(weights.astype(d)) for d in floating))
    whole = np.rint(weights * 500)
    integers = [
        np.abs(whole) if d.kind == "u" else whole for d in container.DTYPES[1:9]
    ]
    leaves = zip(integers, container.DTYPES[1:9], strict=True)
    yield "planes-integers", several(*(DenseLeaf(v.astype(d)) for v, d in leaves))
    words = [dtype for dtype in container.DTYPES if dtype.itemsize == 1]
    few = [(np.abs(whole) % 3 + (d.kind != "b")).astype(d) for d in words]
    yield "planes-words", several(*map(DenseLeaf, few))
    special = np.tile([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324, 1, -1], 60)
    yield (
        "planes-not-finite",
        several(*(DenseLeaf(special.astype(d)) for d in floating)),
    )
    # Blocks of 2**14 words: one that is noise and so stored, and one of few words.
    noise = rng.integers(1, 2**16, 2**14, np.uint16)
    for size in (1, 2**14 - 1, 2**14, 2**14 + 1):
        values = np.concatenate([noise, 5 + np.arange(size, dtype=np.uint16) % 7])
        yield f"planes-blocks-{size}", several(DenseLeaf(values))
    yield "planes-alike", several(*(DenseLeaf(np.full(99, 7, d)) for d in floating))


def _words() -> Iterator[tuple[str, Compressed]]:
    """Values of one byte: every one of them, few and many in a codebook, none."""
    every = np.arange(256, dtype=np.uint8)
    kinds = [dtype for dtype in container.DTYPES if dtype.itemsize == 1]
    yield "words-raw", several(*(DenseLeaf(every.view(d)) for d in kinds[1:]))
    # In the order of their codebooks, which the specification gives in words.
    signed = np.arange(-128, 128).astype(np.int8)
    magnitudes = [*range(255, 127, -1), *range(1, 128)]
    for dtype in kinds:
        order = np.array(magnitudes, np.uint8)
        if dtype.kind in "bu":
            order = every[1:2] if dtype.kind == "b" else every[1:]
        elif dtype == np.int8:
            order = signed[signed != 0].view(np.uint8)
        books = tuple(
            order[:: order.size // n].view(dtype)
            for n in (1, 2, 31, 32, 33, 255)
            if n <= order.size
        )
        for coding in codings.ALL:
            labels = [np.arange(2 * b.size + 4) % (b.size + 1) for b in books]
            leaves = [SharedLeaf(own, i, coding) for i, own in enumerate(labels)]
            again = SharedLeaf(labels[0][::-1], 0, coding)
            yield f"words-{dtype.name}-{coding}", several(*leaves, again, books=books)


def _codebooks() -> Iterator[tuple[str, Compressed]]:
    """Codebooks: entries and grids of every dtype, narrow and wide."""
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    two = (
        SharedLeaf(labels, 0),
        DenseLeaf(np.float32([1, 2])),
        SharedLeaf(labels[::-1] % 3, 1),
    )
    books = book(3), book(2, np.float64)
    yield "codebooks", several(*two, SharedLeaf(labels % 2, 0), books=books)
    for dtype in container.DTYPES[9:13]:
        step = np.array(0.1).astype(dtype).astype(np.float64)
        entries = [
            (step * factors).astype(dtype)
            for factors in (
                [*range(-9, 0), *range(1, 9)],
                [*range(1, 30)],
                [*range(-30, 0)],
                [-7, -6, -4, -3, -2, 1, 2, 5, 9, 10, 11, 13],
            )
        ]
        yield f"grids-{dtype.name}", named(*entries)
        ends = ml_dtypes.finfo(dtype)
        entries = [
            np.array([-1.7, 0.3, 9.1]).astype(dtype),
            np.array([ends.min, ends.smallest_subnormal, ends.max]),
        ]
        for narrow in container.DTYPES[9:12]:
            if narrow.itemsize < dtype.itemsize:
                values = np.array([-1.7, 0.3, 9.1, 1e-4]).astype(narrow)
                entries.append(np.sort(values.astype(dtype)))
        yield f"entries-{dtype.name}", named(*entries)
    most = np.arange(1, 2**15 + 1, dtype=np.float32)
    yield (
        "entries-32768",
        several(SharedLeaf(np.array([0, 1, 2**15]), 0), books=(most,)),
    )


def _labels() -> Iterator[tuple[str, Compressed]]:
    """Every coding over shapes and numbers of entries."""
    for coding, module in codings.ALL.items():
        leaves = [
            SharedLeaf(
                np.arange(math.prod(shape)).reshape(shape) * 5 % 7 % 4, 0, coding
            )
            for shape in SHAPES
        ]
        zeros = [SharedLeaf(np.zeros((3, 4), int), 0, coding)]
        yield f"{coding}-shapes", several(*leaves, *zeros, books=(book(3),))
        sizes = [0, 1, 2, 3, 255, 256, 257, 1023, 1024, 1025]
        sizes = [k for k in sizes if module.applies(codings.Leaf((1,), k, 0))]
        leaves = [
            SharedLeaf(np.arange(k + 1), i, coding) for i, k in enumerate(sizes) if k
        ]
        leaves = [SharedLeaf(np.zeros(5, int), 0, coding), *leaves]
        yield f"{coding}-entries", several(*leaves, books=tuple(map(book, sizes)))


def _streams() -> Iterator[tuple[str, Compressed]]:
    """Gaps at their limits, lanes, classes and models."""
    for gap_bits in (1, 2, 8, 16):
        leaves: list[SharedLeaf] = []
        for zeros in range((1 << gap_bits) - 2, (1 << gap_bits) + 1):
            labels = np.zeros(zeros + 2, np.uint8)
            labels[[0, -1]] = 1
            leaves.append(SharedLeaf(labels, 0, "relative", gap_bits))
        yield f"gaps-of-{gap_bits}-bits", several(*leaves, books=(book(1),))
    rng = np.random.default_rng(0)
    far = np.zeros(20_000, np.uint8)
    far[rng.permutation(far.size)[:9]] = 1
    far[:70] = 1  # dense here and thin there: the grouped coding needs escapes
    leaves = [SharedLeaf(far, 0, coding) for coding in ("relative", "grouped")]
    yield "low-bits-and-escapes", several(*leaves, books=(book(1),))
    for size in (2**15 - 1, 2**15, 2**15 + 1):
        labels = np.arange(size) * np.arange(size) % 11 % 3 + 1
        leaves = [SharedLeaf(labels, 0, coding) for coding in ("relative", "order0")]
        yield f"lanes-{size}", several(*leaves, books=(book(3),))
    for shape in ((60, 80), (30, 20, 16), (3, 3, 30, 40)):
        density = sum(
            rng.normal(
                scale=1.2, size=[n if a == axis else 1 for a in range(len(shape))]
            )
            for axis, n in enumerate(shape)
        )
        kept = rng.logistic(loc=1, size=shape) < density
        far = rng.exponential(np.exp(density)).clip(0, 3).astype(int)
        labels = np.where(rng.random(shape) < 0.5, 5 + far, 4 - far) * kept
        leaf = SharedLeaf(labels, 0, "grouped")
        yield f"classes-{len(shape)}d", several(leaf, books=(book(8),))


def _copies() -> Iterator[tuple[str, Compressed]]:
    """Equal leaves, of which one is stored."""
    odd = np.array([np.nan, -np.nan, -0.0, 0.0, 1.0])
    every = [odd.astype(dtype) for dtype in container.DTYPES[9:]]
    every += [np.arange(2).astype(dtype) for dtype in container.DTYPES[:9]]
    yield "copies-dtypes", several(*map(DenseLeaf, every * 2))
    small = [np.array(7), np.array(7, np.int8), np.zeros((0, 3)), np.zeros((3, 0))]
    thin = np.where(np.arange(99) == 7, 1.5, 0)
    large = np.arange(1024, dtype=np.uint8)
    raw = [DenseLeaf(values) for values in (*small, thin, large)]
    labels = np.arange(2048).reshape(32, 64) % 5 % 3
    coded = [SharedLeaf(labels[:8], 0, coding) for coding in codings.ALL]
    # 20 leaves: the numbers of those that are copied have one digit, or two, of 16.
    apart = [DenseLeaf(np.array(value, np.int16)) for value in range(9)]
    several_of_each = [*apart, *raw, *coded, SharedLeaf(labels, 0, "packed")]
    yield "copies", several(*several_of_each, *several_of_each, books=(book(2),))
    layer = [DenseLeaf(np.ones(4, np.float32)), *coded[:1]]
    tree: Structure = [{"bias": 2 * i, "kernel": 2 * i + 1} for i in range(3)]
    yield "copies-in-a-tree", Compressed({"layers": tree}, (*layer,) * 3, (book(2),))
    # The second codebook equals the first. One leaf that has it is a copy, one is not.
    books = book(2), book(2), book(3), book(2)
    own = [SharedLeaf(labels[0], number, "packed") for number in range(4)]
    last = SharedLeaf(labels[1], 1, "packed")
    yield "copies-of-equal-codebooks", several(*own, last, books=books)


def _metadata() -> Iterator[tuple[str, bytes]]:
    """Strings that go with a network."""
    some = {"format": "pt", "": "", "层": "é", "long": "x" * 2000, "\0": "\n\0"}
    network = several(DenseLeaf(np.arange(9)), DenseLeaf(np.arange(500)))
    yield "metadata", container.dumps(network, some)
    yield "metadata-alone", container.dumps(Compressed(None, (), ()), {"a": "b"})
    many = {f"{number:x}": str(number) for number in range(200)}
    yield "metadata-of-200-pairs", container.dumps(network, many)


def _in_parts() -> Iterator[tuple[str, bytes]]:
    """Leaves of up to 2**22 values, which are whole, and of more.

    Few values are kept, at the ends of parts, so that files are small and readers fast.
    """
    for shape, starts in {
        (2**22,): [0],
        (2**22 + 1,): [0, 2**22],
        (1, 3, 2**22, 1): [0, 2**22, 2**23],  # an index each
        (19, 887, 1000): range(0, 19 * 887_000, 4 * 887_000),  # four indices each
    }.items():
        ends = [*starts[1:], math.prod(shape)]
        sizes = [end - start for start, end in zip(starts, ends, strict=True)]
        bodies: list[bytes] = []
        for number, size in enumerate(sizes, 1):
            kept = bytes([number, 256 - number])[: min(size, 2)]
            positions = np.unique([0, size - 1])
            bodies.append(relative.put_positions(positions, None) + kept)
        data = parts.leaf_in_parts(bodies, shape, parts.SPARSE)
        yield f"parts-{'-'.join(map(str, shape))}", data


def _scales() -> Iterator[tuple[str, Compressed]]:
    """Leaves with scales: every dtype, coding and way to divide axes, and copies."""
    rng = np.random.default_rng(0)

    def leaf(shape: tuple[int, ...], batch: int, split: int, most: int, coding: str):
        sizes = shape[:batch], shape[batch:split], shape[split:]
        batches, rows, columns = map(math.prod, sizes)
        exponents = (
            rng.integers(-most, most + 1, (batches, n), np.int8)
            for n in (rows, columns)
        )
        labels = rng.integers(0, 4, shape, np.uint8)
        return SharedLeaf(labels, 0, coding, scales=Scales(batch, split, *exponents))

    shapes = (), (1,), (7,), (4, 6), (3, 4, 5), (0, 3), (3, 0)
    for dtype in container.DTYPES[9:12]:
        most = 40 if dtype == np.float16 else 127
        entries = np.array([-0.75, 0.5, 3]).astype(dtype)
        leaves = [
            leaf(shape, batch, split, most, coding)
            for (number, shape), split in itertools.product(enumerate(shapes), range(4))
            if split <= len(shape)
            for batch in range(split + 1)
            for coding in [[*codings.ALL][(number + split + batch) % 4]]
        ]
        yield f"scales-{dtype.name}", several(*leaves, books=(entries,))
    # Bodies of exponents in the header and behind it, of few bits each and of many.
    sizes = (1023, 1), (1024, 1), (1, 5000)
    leaves = [leaf(shape, 0, 1, most, "packed") for shape in sizes for most in (3, 120)]
    yield "scales-small-and-large", several(*leaves, books=(book(3),))
    alike = [leaf((3, 4), 0, 1, 0, "packed"), leaf((3, 4), 1, 1, 0, "packed")]
    alike = [one._replace(labels=alike[0].labels) for one in alike]
    plain = alike[0]._replace(scales=None)
    copied = several(*alike, plain, *alike[::-1], plain, books=(book(3),))
    yield "scales-copies", copied
    small = np.float16([6.2e-5, 1])  # products that are subnormal in a float16
    tiny = leaf((6, 50), 0, 1, 30, "packed")
    labels = np.minimum(tiny.labels, 2)
    yield "scales-subnormal", several(tiny._replace(labels=labels), books=(small,))


def book(k: int, dtype: type = np.float32) -> np.ndarray:
    """A codebook of k entries around zero, which is left out."""
    entries = np.arange(k) - k // 2
    return (entries + (entries >= 0)).astype(dtype)


def several(
    *leaves: DenseLeaf | SharedLeaf, books: tuple[np.ndarray, ...] = ()
) -> Compressed:
    """A list of leaves."""
    return Compressed(list(range(len(leaves))), leaves, books)


def named(*books: np.ndarray) -> Compressed:
    """A leaf for each codebook, of all its entries."""
    leaves = [
        SharedLeaf(np.arange(b.size + 1), i, "packed") for i, b in enumerate(books)
    ]
    return several(*leaves, books=books)


def _nest(depth: int) -> Structure:
    return [_nest(depth - 1)] if depth else 0


# ---- put together by hand -----------------------------------------------------------


def _by_hand() -> Iterator[tuple[str, bytes]]:
    """What the library does not write, but reads."""
    leaf, again = parts.LEAF, parts.AGAIN
    once = parts.container(3, leaf, again, parts.NONE, again, again)
    pair = parts.container(4, parts.container(3), again, parts.container(3), again)
    tree = parts.container(3, once, once, again, pair)
    yield "repeats-of-one-byte", parts.header(tree=tree, leaves=parts.EMPTY * 6)
    yield "not-in-the-fewest-bytes", parts.leaf(b"\0" * 300, (300,), parts.RAW)
    far = parts.gaps(parts.ZERO, low_bits=32, low=bytes([0, 0, 0, 33]))
    yield "low-bits-32", parts.leaf(far + b"\7", (40,), parts.SPARSE)
    yield "planes-all-stored", parts.leaf(bytes(16), (3,), parts.PLANES, dtype=11)
    yield from _grids_by_hand()
    yield from _streams_by_hand()
    yield from _copies_by_hand()


def _grids_by_hand() -> Iterator[tuple[str, bytes]]:
    def used(codebook: bytes, k: int) -> bytes:
        labels = pack(
            np.arange(1, k + 1, dtype=np.uint16), np.full(k, k.bit_length(), np.uint8)
        )
        layout = parts.layout(
            (k,), parts.PACKED, codebook=codebook, storage=parts.FLOAT16
        )
        leaves = layout + put_varint(len(labels)) + labels
        return parts.header(tree=parts.LEAF, leaves=leaves)

    one = bytes.fromhex("003c")  # 1.0 as float16; 2049 is between two of them, 2051 too
    flags = bytearray(-(-4096 // 8))
    for factor in (1, 2, 2047, 2049, 2051):
        flags[(factor - 1) // 8] |= 0x80 >> (factor - 1) % 8
    yield "grid-ties", used(parts.grid(one, (0, 4096), bytes(flags)), 5)
    least, flags = bytes.fromhex("0100"), bytearray(2**17 // 8)
    flags[0], flags[-1] = 0x80, 0x01
    limits = parts.grid(least, (2**16, 2**16), bytes(flags))
    yield "grid-of-the-greatest-factors", used(limits, 2)
    gap = 2**28 - 4  # -2**28; -2, -1, 1, 2; 2**28
    far = parts.runs(least, 2**29 - 1, 0, gap, 3, gap, 0, count=3)
    yield "grid-in-runs-of-the-greatest-factors", used(far, 6)


def _streams_by_hand() -> Iterator[tuple[str, bytes]]:
    labels = [0, 1, 3, 2, 2, 0, 1]
    for lanes in (2, 3, 7, 9):
        body = b"".join(parts.order0(labels, 3, lanes=lanes))
        yield f"order0-{lanes}-lanes", parts.leaf(body, (7,), parts.ORDER0, k=3)
    # Columns are of class 0 or 2, so that group 1 has no values.
    columns = parts.classes(None, [0, 2, 2])
    groups = [(2, [0, 0], [0, 4]), (0, [], []), (4, [1, 1], [3, 2])]
    for name, tables in {"codes": (1, 64), "frequencies": (0, 0)}.items():
        body = parts.grouped(groups, 5, front=columns, splits=4, tables=tables)
        data = parts.leaf(body, (2, 3), parts.GROUPED, k=5)
        yield f"grouped-two-tables-of-{name}", data
    body = parts.grouped([(9, [2, 3], [0, 0])], 1, lanes=4)
    yield "grouped-4-lanes", parts.leaf(body, (9,), parts.GROUPED, k=1)
    rows = [0, 0, 2, 1, 1, 0, 2, 2, 2, 1, 0, 0, 1, 2, 2, 0, 1, 1, 1, 2]
    groups = [(2 * rows.count(c), [c, 0], [0, 0]) for c in range(3)]
    for context in (0, 1, 2, 3, 4, 7, 38, 39, 40, 2**60 + 1):
        classes = parts.classes(rows, None, context=context)
        body = parts.grouped(groups, 1, front=classes)
        data = parts.leaf(body, (20, 2), parts.GROUPED, k=1)
        yield f"grouped-context-{context}", data
    # No index is of class 0 or 1: groups 0 to 2 have no values, and no numbers of gaps.
    some = [(0, [], [])] * 3 + [(2, [0], [0]), (2, [0, 0], [0, 0])]
    for name, splits in {"one-table": 0, "a-table-for-the-last-group": 16}.items():
        body = parts.grouped(
            some,
            1,
            front=parts.classes([2, 3], [1, 1]),
            splits=splits,
            tables=(1,) * (1 + splits.bit_count()),
        )
        yield (
            f"grouped-only-high-classes-{name}",
            parts.leaf(body, (2, 2), parts.GROUPED, k=1),
        )
    body = parts.classes(*([15, 15],) * 4, [2, 2]) + put_varint(0)
    yield "grouped-63-groups", parts.leaf(body, (2,) * 5, parts.GROUPED, k=1)


def _copies_by_hand() -> Iterator[tuple[str, bytes]]:
    tree = parts.container(3, leaf := parts.LEAF, leaf, leaf, leaf)
    number, second = (parts.layout((), parts.RAW, dtype=1) + b"\1" for _ in range(2))
    # Leaf 1 equals leaf 0 and is stored too; each is copied once.
    leaves = number + second + parts.copy_of(1) + parts.copy_of(0) + b"\7\7"
    data = parts.header(tree=tree, leaves=leaves)
    yield "copies-not-of-all-that-are-equal", data


def _scales_by_hand() -> Iterator[tuple[str, bytes]]:
    yield (
        "scales-of-30-axes",
        parts.scaled(b"\1", b"\7", shape=(1,) * 30, split=(9, 30)),
    )
    fives = b"\1\5"  # in three bytes they would be as short as by planes
    yield "scales-by-planes", parts.scaled(fives, fives, shape=(3, 3))
    zeros = b"\1\0" + 8 * b"\xff"  # of 64 blocks, each of which is coded
    yield "scales-of-no-values", parts.scaled(b"", zeros, shape=(0, 2**20))


def main() -> None:
    """Writes the vectors that are not there yet, and freezes them."""
    for path, data in vectors().items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        if not path.startswith("valid") or not (FOLDER / path).exists():
            (FOLDER / path).write_bytes(data)
    old = FROZEN.read_text().splitlines() if FROZEN.exists() else []
    known = {line.split()[0] for line in old}
    results = (ROOT / "experiments" / "results").rglob("*.dcz")
    for path in (*FOLDER.glob("valid/*.dcz"), *results):
        name = path.relative_to(ROOT).as_posix()
        if name not in known:
            data = path.read_bytes()
            found = hashlib.sha256(data).hexdigest(), content(data)
            old.append(" ".join((name, *found)))
    FROZEN.write_text("\n".join(sorted(old)) + "\n")


if __name__ == "__main__":
    main()
