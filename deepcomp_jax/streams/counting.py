"""How often symbols occur, and the bits that they need for it."""

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16  # symbols counted together


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
