"""What all codings of labels have in common: their contract, and their input."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import bits, lane_index, rans
from deepcomp_jax.streams.counting import bincount

_ALIGNMENT = 64  # bytes
BLOCK = 1 << 16  # labels treated together: wide arrays of so many fit a cache


class Leaf(NamedTuple):
    """What is known of labels before their body is read.

    Attributes:
        shape: Shape of the leaf; no dimension is 0.
        entries: Number of entries of the codebook. A label is 0 for a pruned weight, or
            the number of its entry, 1 to `entries`.
        negatives: Number of entries below zero, which come first.
    """

    shape: tuple[int, ...]
    entries: int
    negatives: int

    @property
    def size(self) -> int:
        """Number of labels."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The narrowest unsigned dtype that holds every label."""
        return np.min_scalar_type(self.entries)


class Measured(NamedTuple):
    """What the bits of a body are spent on, and what they could be.

    Attributes:
        positions: Code words of gaps or, in part, of labels.
        indices: Code words of indices, of labels where there are no gaps.
        tables: Models: code tables, frequencies.
        lanes: Where the lanes of the streams begin, and their states.
        classes: Classes of the indices of axes.
        header: Numbers and widths of gaps.
        padding: Zero bits that fill bytes.
        ideal: Bits of positions and indices at the order-0 entropy of their symbols or,
            where a stream has models, at the code length of those.
        gaps: Gap symbols.
        fillers: Gap symbols that stand for zeros only.
        gap_bits: Width of a gap symbol if it had no code, 0 if there is none.
    """

    positions: int = 0
    indices: int = 0
    tables: int = 0
    lanes: int = 0
    classes: int = 0
    header: int = 0
    padding: int = 0
    ideal: float = 0.0
    gaps: int = 0
    fillers: int = 0
    gap_bits: int = 0


def check_entries(leaf: Leaf, most: int) -> None:
    """Rejects a codebook for which 4096 is too little to share out.

    Raises:
        FormatError: L17.
    """
    if leaf.entries > most:
        raise FormatError(
            f"a codebook of {leaf.entries} entries, above {most}",
            offset=0,
            clause="L17",
        )


def get_byte(data: bytes, pos: int) -> tuple[int, int]:
    """The position after a byte of a body, and the byte."""
    if pos >= len(data):
        raise cut_off(data)
    return pos + 1, data[pos]


def get_fields(
    data: bytes, pos: int, count: int, width: int
) -> tuple[int, NDArray[np.unsignedinteger]]:
    """The position after numbers of `width` bits and their padding, and the numbers."""
    end = after_bits(data, pos, count * width)
    narrow = np.min_scalar_type((1 << width) - 1)
    return end, bits.unpack_fixed(data[pos:end], count, width, dtype=narrow)


def after_bits(data: bytes, pos: int, size: int) -> int:
    """The position after `size` bits and their padding, which must be zero."""
    return lane_index.after_bits(data, pos, size, padding="L2", cut="L1")


def check_end(data: bytes, end: int) -> None:
    """Rejects a body that goes on after its last part."""
    if end != len(data):
        raise FormatError(f"{len(data) - end} bytes too many", offset=end, clause="L1")


def cut_off(data: bytes) -> FormatError:
    """The error of a body that ends too early."""
    return lane_index.cut_off(data, "L1")


# The loop that takes the time: decodes symbols of a rANS stream, as `rans.take` does.
Take: TypeAlias = Callable[..., tuple[rans.State, np.ndarray]]

Labels = NDArray[np.unsignedinteger]
Counts = NDArray[np.int64]  # how often each label occurs, [entries + 1]


class Plan(NamedTuple):
    """A body that is not yet written.

    Attributes:
        bits: About how many it would have.
        write: Writes it; takes the loop that codes rANS streams.
    """

    bits: float
    write: Callable[[rans.Put], bytes]


class Coding(NamedTuple):
    """A coding of labels, as data: all that the rest of the library knows of it.

    The law: for each leaf that the coding applies to, `decode` gives back the labels
    that `encode` was given, and reads its body to the last byte. Equal labels give
    equal bodies on every machine.

    Attributes:
        max_entries: The largest codebook that it can hold; None: any.
        least: The fewest bits that a body may have, as far as the counts of the labels
            tell: less than what planning it takes.
        plan: Takes labels, uint[size], each 0 to `leaf.entries`, and their counts, and
            decides all that a body consists of.
        decode: Reads a body: the values that the labels stand for, [size] in the dtype
            of the lookup table. That table, [entries + 1], has the value of each label:
            first that of a pruned weight, then the codebook's. Raises `FormatError` if
            the body breaks a clause of the codings (L) or of a stream in it (G, H, E);
            its offset is that in the body.
        measure: Reads a body too: what its bits are spent on, and the labels, [size].
    """

    max_entries: int | None
    least: Callable[[Labels, Leaf, Counts], float]
    plan: Callable[[Labels, Leaf, Counts], Plan]
    decode: Callable[[bytes, Leaf, np.ndarray, Take], np.ndarray]
    measure: Callable[[bytes, Leaf], tuple[Measured, Labels]]

    def applies(self, leaf: Leaf) -> bool:
        """Whether the coding can hold a leaf."""
        return self.max_entries is None or leaf.entries <= self.max_entries

    def encode(self, labels: Labels, leaf: Leaf, put: rans.Put = rans.put) -> bytes:
        """Writes labels, uint[size], each 0 to `leaf.entries`."""
        return self.plan(labels, leaf, counts(labels, leaf)).write(put)


def zeros(size: int, dtype: np.dtype) -> np.ndarray:
    """Zeros, [size], that begin where JAX can take them over without a copy."""
    raw = np.zeros(size * dtype.itemsize + _ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % _ALIGNMENT
    return raw[first : first + size * dtype.itemsize].view(dtype)


def positions(labels: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Where weights are kept: nonzero labels, ascending."""
    return np.flatnonzero(labels != 0)  # twice as fast for truth values


def counts(labels: Labels, leaf: Leaf) -> Counts:
    """How often each label occurs, int64[entries + 1]."""
    return bincount(labels, leaf.entries + 1)


def labels_of(leaf: Leaf) -> Labels:
    """The lookup table that decodes labels to themselves, uint[entries + 1]."""
    return np.arange(leaf.entries + 1, dtype=leaf.dtype)


def dequantize(labels: Labels, lookup: np.ndarray) -> np.ndarray:
    """What labels, uint[size], stand for, without large arrays of indices.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.codings import common
        >>> lookup = np.array([0.0, -0.5, 0.25])
        >>> common.dequantize(np.array([2, 0, 1], np.uint8), lookup)
        array([ 0.25,  0.  , -0.5 ])
    """
    values = zeros(labels.size, lookup.dtype)
    for first in range(0, labels.size, BLOCK):
        part = slice(first, first + BLOCK)
        lookup.take(labels[part], out=values[part], mode="clip")
    return values


def check_index(most: int, leaf: Leaf, at: int) -> None:
    """Rejects indices of entries, counted from 0, that the codebook does not have.

    Args:
        most: The greatest index.
        leaf: What it belongs to.
        at: Where the indices are in the body.

    Raises:
        FormatError: L4.
    """
    if most >= leaf.entries:
        raise FormatError(
            f"there is no entry {most} in the codebook", offset=at, clause="L4"
        )
