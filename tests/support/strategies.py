"""Hypothesis strategies, one block per module under test."""

import enum
import math
from collections import defaultdict
from collections.abc import Sequence

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from deepcomp_jax import codings
from deepcomp_jax._types import Compressed, DenseLeaf, Scales, SharedLeaf, Structure
from deepcomp_jax.codings import symbol_models
from deepcomp_jax.format import container
from deepcomp_jax.streams import rans

# ---- kmeans, share ------------------------------------------------------------------

FLOATS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64")


def weights(max_size: int = 40) -> st.SearchStrategy[np.ndarray]:
    """Flat float32 arrays of ordinary size, often with repeats."""
    number = st.floats(-8, 8, width=32)
    few = st.lists(number, min_size=1, max_size=6).flatmap(
        lambda pool: st.lists(st.sampled_from(pool), max_size=max_size)
    )
    many = st.lists(number, max_size=max_size)
    return (few | many).map(lambda numbers: np.array(numbers, np.float32))


@st.composite
def any_finite(draw: st.DrawFn) -> np.ndarray:
    """16 weights of a type of up to 32 bits, of any size; one at least is not zero."""
    dtype = draw(st.sampled_from(["float16", "bfloat16", "float32"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits = rng.integers(0, 2**32, 16, np.uint32)
    if draw(st.booleans()):  # zeros and subnormal numbers, and a few normal ones
        bits &= 0x80FFFFFF if dtype == "float32" else 0x80FF
    values = bits.astype("u4" if dtype == "float32" else "u2").view(np.dtype(dtype))
    values = np.where(np.isfinite(values), values, -np.zeros_like(values))
    values[0] = np.ones((), values.dtype)
    return values


@st.composite
def beside_borders(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """40 finite values and a codebook, of any float type, near each other or far apart.

    Many values are entries, or in the middle of two, or next to that.
    """
    dtype = np.dtype(draw(st.sampled_from(FLOATS)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bits = rng.integers(0, 256, (20, dtype.itemsize), np.uint8)
    if draw(st.booleans()):  # so that only the last bits differ
        bits[:, dtype.itemsize // 2 :] = bits[0, dtype.itemsize // 2 :]
    values = bits.view(dtype).ravel()
    with np.errstate(invalid="ignore"):  # of NaN
        values = np.where(np.isfinite(values), values, -np.zeros_like(values))
    values[0] = 1
    kept = np.unique(values[values != 0])
    codebook = np.sort(rng.choice(kept, rng.integers(1, kept.size + 1), replace=False))
    with np.errstate(over="ignore"):
        middles = codebook[:-1].astype(float) / 2 + codebook[1:].astype(float) / 2
    middles = np.resize(np.append(middles, 1.0), 7).astype(dtype)
    sides = [np.nextafter(middles, np.array(way, dtype)) for way in (-1, 1)]
    found = np.concatenate([values[:19], middles, *sides])
    return np.where(np.isfinite(found), found, values[0]), codebook


@st.composite
def many_weights(
    draw: st.DrawFn, dtypes: Sequence[str] = ("float32", "float64", "bfloat16")
) -> np.ndarray:
    """About 10,000 finite values: a distribution of any place, scale and tails.

    Some are pruned, some on a grid; there are zeros of both signs.
    """
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drawn = draw(
        st.sampled_from(
            [
                rng.standard_normal,
                rng.random,
                rng.standard_cauchy,
                lambda size: rng.lognormal(sigma=4, size=size),
                lambda size: rng.integers(-40, 40, size) / 7,
                lambda size: 2.0 ** rng.integers(-30, 30, size),
            ]
        )
    )(10_000)
    drawn += draw(st.sampled_from([0.0, 0.0, 5.0, -300.0]))
    drawn = drawn[np.abs(drawn) >= draw(st.sampled_from([0.0, 0.5]))]
    drawn *= draw(st.sampled_from([1.0, 1e-3, 1e-38, 1e20]))
    drawn = np.append(drawn, [0.0, -0.0, 1.0])
    limit = float(ml_dtypes.finfo(dtype).max)
    return drawn.clip(-limit, limit).astype(dtype)


@st.composite
def weighted(draw: st.DrawFn, max_size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Values, at least one, and small whole importances, not all zero."""
    values = draw(weights(max_size).filter(lambda values: values.size > 0))
    size = values.size
    importance = st.lists(st.integers(0, 4), min_size=size, max_size=size).filter(any)
    return values, np.array(draw(importance), np.float64)


# ---- bits, gaps, huffman ------------------------------------------------------------


@st.composite
def code_words(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Pairs of a word and its length in bits, up to a longest length of 0 to 64."""
    longest = draw(st.integers(0, 64))
    length = st.integers(0, longest)
    word = length.flatmap(
        lambda size: st.tuples(st.integers(0, 2**size - 1), st.just(size))
    )
    return draw(st.lists(word, max_size=40))


def kept_positions(max_zeros: int = 100) -> st.SearchStrategy[np.ndarray]:
    """Ascending positions, int64, with up to `max_zeros` zeros before each."""
    zeros = st.lists(st.integers(0, max_zeros), max_size=30)
    return zeros.map(lambda runs: np.cumsum(np.array(runs, np.int64) + 1) - 1)


def counts(max_symbols: int = 12) -> st.SearchStrategy[np.ndarray]:
    """How often symbols occur, int64; some never, some very often, many equally."""
    count = st.integers(0, 3) | st.integers(0, 30).map(lambda power: 2**power)
    return st.lists(count, max_size=max_symbols).map(
        lambda all_: np.array(all_, np.int64)
    )


@st.composite
def streams(draw: st.DrawFn, max_size: int = 600) -> tuple[np.ndarray, int | None]:
    """Symbols, uint16, and a number of lanes that suits them, or None.

    The symbols are skewed towards the first of a pool, which makes long words.
    """
    pool = draw(st.lists(st.integers(0, 2**16 - 1) | st.integers(0, 20), min_size=1))
    skew = draw(st.floats(0.05, 1))
    size = draw(st.integers(0, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    index = np.minimum(rng.geometric(skew, size) - 1, len(pool) - 1)
    symbols = np.array(pool, np.uint16)[index]
    most = size // 16
    lanes = draw(st.none() | st.integers(1, most)) if most else None
    return symbols, lanes


# ---- rans, codings ------------------------------------------------------------------


@st.composite
def models(draw: st.DrawFn) -> rans.Models:
    """A few models of one alphabet of 1 to 40 symbols, some of which are not used."""
    count, alphabet = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    code = st.integers(0, 63) | st.just(0) | st.just(63)
    row = st.lists(code, min_size=alphabet, max_size=alphabet).filter(any)
    codes = draw(st.lists(row, min_size=count, max_size=count))
    return rans.models(symbol_models.frequencies(np.array(codes, np.uint8)))


@st.composite
def segments(draw: st.DrawFn) -> list[rans.Segment]:
    """One to three segments of symbols that their models have, likely or not."""
    found: list[rans.Segment] = []
    for table in draw(st.lists(models(), min_size=1, max_size=3)):
        size = draw(st.integers(0, 300))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        chosen = rng.integers(0, len(table.frequencies), size).astype(np.uint8)
        shares = (table.frequencies > 0) * (table.frequencies ** draw(st.floats(0, 1)))
        ends = np.cumsum(shares, axis=1)[chosen]
        at = rng.random(size) * ends[:, -1]
        symbols = (ends <= at[:, None]).sum(axis=1).astype(np.uint16)
        found.append(rans.Segment(symbols, table, chosen))
    return found


@st.composite
def labeled(draw: st.DrawFn) -> tuple[np.ndarray, codings.Leaf]:
    """Labels and the leaf they belong to; sparse ones are sparser in some rows."""
    shape = tuple(draw(st.lists(st.integers(1, 12), max_size=4)))
    entries = draw(st.integers(0, 9) | st.sampled_from([255, 256, 1023, 1024, 1025]))
    leaf = codings.Leaf(shape, entries, draw(st.integers(0, entries)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    odds = np.full(shape, draw(st.sampled_from([-9.0, -2.0, 0.0, 9.0])))
    for axis, size in enumerate(shape):
        rates = rng.normal(scale=draw(st.sampled_from([0, 3])), size=size)
        odds += rates.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    kept = (rng.logistic(size=shape) < odds).ravel() & (entries > 0)
    spread = draw(st.sampled_from([0.5, 3.0, 1e9]))
    far = rng.laplace(scale=spread, size=leaf.size) + leaf.negatives
    labels = np.where(kept, far.clip(0, max(entries - 1, 0)).astype(int) + 1, 0)
    return labels.astype(leaf.dtype), leaf


# ---- trees --------------------------------------------------------------------------


class Part(enum.StrEnum):
    """Keys that are strings of a type of their own."""

    WEIGHT = "weight"
    BIAS = "bias"


class Layer(enum.IntEnum):
    """Keys that are integers of a type of their own."""

    FIRST = 1
    LAST = 7


def nested(leaf: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Pytrees whose dictionaries have keys of all types that a file holds, mixed."""
    keys = st.sampled_from(
        [0, 1, 2, 10, "a", "b", "kernel", False, True, *Part, *Layer, np.int64(5)]
    )

    def around(child: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
        plain = st.dictionaries(keys, child, max_size=4)
        lists = st.lists(child, max_size=3)
        default = plain.map(lambda content: defaultdict(int, content))
        return plain | default | lists | lists.map(tuple)

    return st.recursive(leaf, around, max_leaves=8)


# ---- container, account -------------------------------------------------------------


def _keys() -> st.SearchStrategy[str | int]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    return st.sampled_from(["conv1_1", "conv1_2", "bias"]) | text | st.integers(0, 300)


def containers() -> st.SearchStrategy[Structure]:
    """Structures whose leaves are all numbered 0; `networks` numbers them."""
    return st.recursive(
        st.just(0) | st.none(),
        lambda child: (
            st.dictionaries(_keys(), child, max_size=4)
            | st.lists(child, max_size=3)
            | st.lists(child, max_size=3).map(tuple)
        ),
        max_leaves=8,
    )


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of at most 3 dimensions, some of them empty."""
    return st.lists(st.integers(0, 9), max_size=3).map(tuple)


@st.composite
def dense_values(draw: st.DrawFn) -> np.ndarray:
    """Any bits of any dtype of the format, often with many zeros."""
    dtype, shape = draw(st.sampled_from(container.DTYPES)), draw(shapes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = int(np.prod(shape))
    if dtype.kind == "b":
        values = rng.integers(0, 2, size).astype(bool)
    else:
        raw = rng.integers(0, 256, size * dtype.itemsize, np.uint8)
        values = raw.view(dtype)
    kept = rng.random(size) < draw(st.sampled_from([0.0, 0.1, 1.0]))
    return np.where(kept, values, np.zeros(1, dtype)).astype(dtype).reshape(shape)


@st.composite
def plain_values(draw: st.DrawFn) -> np.ndarray:
    """Values of any dtype, [n], at least one: noise, weights, and what is left of them.

    Floating ones may be weights, perhaps of a type that is narrower, or NaNs of any
    bits; others small numbers. All may be zero here and there, or alike.
    """
    dtype = draw(st.sampled_from(container.DTYPES))
    size = draw(st.integers(1, 3000) | st.just(1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    how = draw(st.sampled_from(["noise", "weights", "narrow", "NaN", "alike"]))
    if dtype.kind == "b":
        values = rng.random(size) < draw(st.sampled_from([0.5, 0.01]))
    elif how in ("weights", "narrow"):
        values = rng.normal(scale=draw(st.sampled_from([0.02, 1.0, 20.0])), size=size)
        if how == "narrow":
            values = values.astype(
                draw(st.sampled_from(["float16", "bfloat16", "int8"]))
            )
        with np.errstate(invalid="ignore", over="ignore"):  # negative to unsigned
            values = values.astype(dtype)
    else:
        raw = rng.integers(0, 256, (size, dtype.itemsize), np.uint8)
        if how == "NaN":
            raw[:, -2:] |= np.array([0xF0, 0x7F], np.uint8)[-dtype.itemsize :]
        values = np.ascontiguousarray(raw).view(dtype)[:, 0]
    if how == "alike":
        values = np.full(size, values[0])
    kept = rng.random(size) < draw(st.sampled_from([1.0, 1.0, 0.5, 0.05]))
    return np.where(kept, values, np.zeros(1, dtype)).astype(dtype)


@st.composite
def word_codebooks(draw: st.DrawFn) -> np.ndarray:
    """A codebook of any dtype of one byte: any bits, NaNs and -0.0 among them."""
    one = [dtype for dtype in container.DTYPES if dtype.itemsize == 1]
    dtype = draw(st.sampled_from(one))
    most = 1 if dtype.kind == "b" else 255
    size = draw(st.integers(0, most) | st.integers(0, min(most, 5)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    words = rng.permutation(np.arange(1, most + 1))[:size].tolist()
    if dtype == np.int8:
        words.sort(key=lambda word: (word + 128) % 256)
    elif dtype.kind in "bu":
        words.sort()
    else:  # sign and magnitude
        words.sort(key=lambda word: -word if word >= 128 else word)
    return np.array(words, np.uint8).view(dtype)


@st.composite
def codebooks(draw: st.DrawFn) -> np.ndarray:
    """A codebook of any dtype that has some, of 0 to 300 entries."""
    if draw(st.integers(0, 3)) == 0:
        return draw(word_codebooks())
    dtype = draw(st.sampled_from(container.DTYPES[9:13]))
    k = draw(st.integers(0, 5) | st.sampled_from([31, 254, 255, 256, 300]))
    entries = np.arange(k) - draw(st.integers(0, k))
    # Up to 256 in magnitude, bfloat16 has every integer; above, only every other one.
    entries = np.unique((entries + (entries >= 0)).astype(dtype))
    return entries * np.array(draw(st.sampled_from([1, 0.125])), dtype)


@st.composite
def stored_codebooks(draw: st.DrawFn) -> np.ndarray:
    """A codebook of any floating dtype: a grid, with gaps of any size, or anything."""
    dtype = draw(st.sampled_from(container.DTYPES[9:13]))
    narrow = draw(st.sampled_from(container.DTYPES[9:13]))
    if draw(st.booleans()):
        far = st.integers(-70_000, 70_000) | st.integers(-(2**29), 2**29)
        factors = draw(st.sets(st.integers(-40, 40) | far))
        step = draw(st.floats(1e-6, 1e3))
        entries = np.array(sorted(factors), np.float64) * float(narrow.type(step))
    else:
        entries = np.array(draw(st.lists(st.floats(allow_nan=False), max_size=20)))
        with np.errstate(over="ignore"):
            entries = entries.astype(narrow)
    with np.errstate(over="ignore"):
        entries = np.unique(entries.astype(np.float64).astype(dtype))
    return entries[np.isfinite(entries) & (entries != 0)]


@st.composite
def scales(draw: st.DrawFn, shape: tuple[int, ...], most: int) -> Scales:
    """Exponents of rows and columns, up to `most`: noise, few of them, or one alone."""
    split = draw(st.integers(0, len(shape)))
    batch = draw(st.integers(0, split))
    matrices = math.prod(shape[:batch])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def exponents(count: int) -> np.ndarray:
        low = draw(st.integers(-most, most))
        high = draw(st.sampled_from([low, min(low + 5, most), most]))
        return rng.integers(low, high + 1, (matrices, count), np.int8)

    first = exponents(math.prod(shape[batch:split]))
    return Scales(batch, split, first, exponents(math.prod(shape[split:])))


@st.composite
def networks(draw: st.DrawFn) -> Compressed:
    """Whole networks, as a reader gives them back."""
    books: list[np.ndarray] = []
    leaves: list[DenseLeaf | SharedLeaf] = []

    def leaf() -> DenseLeaf | SharedLeaf:
        if leaves and draw(st.integers(0, 3)) == 0:
            return draw(st.sampled_from(leaves))
        if draw(st.booleans()):
            return DenseLeaf(draw(dense_values()))
        number = draw(st.integers(0, len(books)))
        if number == len(books):
            books.append(draw(codebooks()))
        k = books[number].size
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        shape = draw(shapes())
        kept = rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 1.0]))
        labels = np.where(kept, rng.integers(min(1, k), k + 1, shape), 0)
        how = draw(st.sampled_from([None, "packed", "order0", "grouped"]))
        labels = labels.astype(np.min_scalar_type(k))
        found = None
        if books[number].dtype in container.DTYPES[9:12] and draw(st.booleans()):
            found = draw(scales(shape, 28 if books[number].dtype == "f2" else 127))
        if draw(st.booleans()):
            gap_bits = draw(st.integers(1, 16))
            return SharedLeaf(labels, number, "relative", gap_bits, found)
        return SharedLeaf(labels, number, how, scales=found)

    def number(node: Structure) -> Structure:
        if isinstance(node, dict):
            keys = sorted(node, key=lambda key: (isinstance(key, str), key))
            return {key: number(node[key]) for key in keys}
        if isinstance(node, (list, tuple)):
            return type(node)(map(number, node))
        if node is None:
            return None
        leaves.append(leaf())
        return len(leaves) - 1

    structure = number(draw(containers().filter(_names_differ)))
    return Compressed(structure, tuple(leaves), tuple(books))


def _names_differ(node: Structure) -> bool:
    names = _paths(node)
    return len(names) == len(set(names))


def _paths(node: Structure) -> list[str]:
    if node is None or isinstance(node, int):
        return [] if node is None else [""]
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return [f"{key}/{path}" for key, child in items for path in _paths(child)]
