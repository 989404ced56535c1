"""How often symbols occur, and the bits that they need for it."""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16  # symbols counted together
_PAIRED = 1 << 18  # pairs of bytes counted together: many for each of 65,536


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
    if symbols.dtype == np.uint8 and symbols.size > _PAIRED:
        even = symbols.size // 2 * 2
        found[int(symbols[-1])] += symbols.size - even
        return found + _of_pairs(symbols[:even])[: found.size]
    for first in range(0, symbols.size, _BLOCK):
        found += np.bincount(symbols[first : first + _BLOCK], minlength=found.size)
    return found


def _of_pairs(symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Counts of each of 256 symbols, int64[256], from those of pairs of neighbors."""
    pairs = np.ascontiguousarray(symbols).view(np.uint16)
    found = np.zeros(1 << 16, np.int64)
    for first in range(0, pairs.size, _PAIRED):
        found += np.bincount(pairs[first : first + _PAIRED], minlength=found.size)
    both = found.reshape(256, 256)
    return both.sum(axis=0) + both.sum(axis=1)
