"""Measures of compression, from plain counts.

Some count less than a file needs; each says what it leaves out. The only honest ratio
is `Account.ratio`, bytes of dense values over bytes of the file.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16  # symbols counted together


class Sharing(NamedTuple):
    """The slides' measures of weight sharing.

    All of them count distinct values. They leave out the index that each surviving
    weight needs to name its value, and the positions of the survivors: no decoder can
    do without these. A measure is None where it would divide by zero.

    Attributes:
        nonzero: Values that are not zero.
        unique: Distinct values among them.
        parameters: Values in all.
        unique_per_nonzero: unique / nonzero, in percent.
        unique_per_parameters: unique / parameters, in percent.
        parameters_per_unique: The slides' "compression rate".
    """

    nonzero: int
    unique: int
    parameters: int
    unique_per_nonzero: float | None
    unique_per_parameters: float | None
    parameters_per_unique: float | None


def sharing_measures(nonzero: int, unique: int, parameters: int) -> Sharing:
    """The slides' results page, from three counts.

    Args:
        nonzero: Values that are not zero.
        unique: Distinct values among them.
        parameters: Values in all.
    """
    return Sharing(
        nonzero,
        unique,
        parameters,
        divide(100 * unique, nonzero),
        divide(100 * unique, parameters),
        divide(parameters, unique),
    )


def divide(above: int, below: int) -> float | None:
    """A ratio; None if there is nothing below."""
    return above / below if below else None


def equation_1(n: int, k: int, b1: float = 32, b2: float = 8) -> float:
    """Compression by sharing: r = n b1 / (n log2(k) + k b2), both in bits.

    Equation 1 of arXiv 1510.00149, where the entries of the codebook have the bits of
    the weights, b2 = b1; the slides take b2 = 8. It leaves out the positions of the
    weights, everything that pruning saved, and what an entropy coder saves.

    Args:
        n: Number of weights.
        k: Number of clusters.
        b1: Bits of a weight before sharing.
        b2: Bits of an entry of the codebook.

    Raises:
        ValueError: n or k is not positive.
    """
    if n < 1 or k < 1:
        raise ValueError(f"equation 1 needs weights and clusters, got n={n}, k={k}")
    return n * b1 / (n * math.log2(k) + k * b2)


def product(*levels: float) -> float:
    """The slides' product of levels, such as sharing times pruning.

    It leaves out what each of its factors does; with `equation_1` and all / non-zero
    values as factors, the positions, on which pruning spends most of its saving.
    """
    return math.prod(levels)


def entropy(symbols: NDArray[np.unsignedinteger]) -> float:
    """Bits that the symbols need at their order-0 entropy, for all of them together.

    Coders that use what is around a symbol, or adapt, may need fewer.
    """
    counts = bincount(symbols)
    counts = counts[counts > 0]
    return float(np.sum(counts * np.log2(symbols.size / counts)))


def bincount(symbols: NDArray[np.unsignedinteger], size: int = 0) -> NDArray[np.int64]:
    """`np.bincount` without a copy of eight bytes for each symbol.

    Args:
        symbols: uint[n].
        size: Of the result, at least.
    """
    most = int(symbols.max()) + 1 if symbols.size else 0
    found = np.zeros(max(size, most), np.int64)
    for first in range(0, symbols.size, _BLOCK):
        found += np.bincount(symbols[first : first + _BLOCK], minlength=found.size)
    return found
