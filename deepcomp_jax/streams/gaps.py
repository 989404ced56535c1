"""Positions of the kept weights as gaps of a few bits: the paper's relative index.

Han, Mao and Dally, arXiv 1510.00149, section 2 and figure 2. In place of its absolute
position, each kept weight stores the number of zeros before it. A gap symbol has
`bits` bits; with cap = 2**bits - 1:

    symbol g < cap    g zeros, then a kept weight
    symbol cap        cap zeros and no weight: a filler

    values         0 0 w w 0 0 0 0 0 w 0 0
    2-bit symbols  2   0 3     2
                   |   | |     two zeros and a weight
                   |   | filler: three zeros
                   |   no zero and a weight
                   two zeros and a weight; the zeros at the end are not coded

With m low bits, a symbol counts units of 2**m zeros, and the m bits that are left of
each gap follow by themselves (Golomb's code): a symbol need not be wide for long gaps.

Format notes:

- The paper's filler is a weight of value zero, which needs an index in the codebook
  as well. Here it stands for zeros only, so a filler costs its gap symbol alone.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams.bits import unpack_fixed

MAX_BITS = 16

_BLOCK = 1 << 16  # symbols decoded together: wide arrays of so many fit a cache


def encode(
    positions: NDArray[np.integer], *, bits: int, low_bits: int = 0
) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
    """Gap symbols of the kept weights of a tensor, and the low bits of their gaps.

    Args:
        positions: Indices of the kept weights in the flattened tensor, ascending,
            int[n].
        bits: Width of a symbol, 1 to 16.
        low_bits: Number of low bits of a gap, which are no part of its symbol; the
            symbol counts units of 2**low_bits zeros.

    Returns:
        The symbols, uint16[n + fillers], and the low bits, uint64[n].

    Raises:
        ValueError: The positions are negative or not strictly ascending, or the
            width is out of range.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.streams import gaps
        >>> symbols, _ = gaps.encode(np.array([2, 3, 9]), bits=2)
        >>> symbols
        array([2, 0, 3, 2], dtype=uint16)
    """
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"a gap must have 1 to {MAX_BITS} bits, got {bits}")
    cap = (1 << bits) - 1
    zeros = np.diff(positions.astype(np.int64), prepend=-1) - 1
    if zeros.size and zeros.min() < 0:
        at = int(np.flatnonzero(zeros < 0)[0])
        raise ValueError(
            "positions must be non-negative and strictly ascending, but "
            f"positions[{at}] is {int(positions[at])}"
        )
    units = zeros >> low_bits
    low = (zeros - (units << low_bits)).astype(np.uint64)
    return put_fillers(units, cap), low


def put_fillers(units: NDArray[np.integer], cap: int) -> NDArray[np.uint16]:
    """Cuts gaps of any length into symbols: as many fillers as go into each, the rest.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.streams import gaps
        >>> gaps.put_fillers(np.array([2, 0, 5, 3]), cap=3)
        array([2, 0, 3, 2, 3, 0], dtype=uint16)
    """
    fillers = units // cap
    last = np.cumsum(fillers + 1) - 1
    symbols = np.full(last[-1] + 1 if last.size else 0, cap, np.uint16)
    symbols[last] = units - fillers * cap
    return symbols


def decode(
    symbols: NDArray[np.unsignedinteger],
    low: bytes = b"",
    *,
    cap: int,
    low_bits: int = 0,
    start: int = 0,
) -> Iterator[NDArray[np.int64]]:
    """Positions of the kept weights, block after block.

    Corrupt symbols yield arbitrary positions: `check` and `check_end` tell.

    Args:
        symbols: Gap symbols, uint[g].
        low: The low bits of the gaps that end at a weight, one after the other.
        cap: The filler.
        low_bits: Number of low bits of a gap, at most 32.
        start: Where those of the first gap begin in `low`, in bits.

    Yields:
        int64[at most 2**16], ascending from one block to the next.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.streams import gaps
        >>> next(gaps.decode(np.array([2, 0, 3, 2], np.uint16), cap=3))
        array([2, 3, 9])
    """
    zeros, position = 0, -1
    for first in range(0, symbols.size, _BLOCK):
        block = symbols[first : first + _BLOCK]
        units = np.cumsum(block, dtype=np.int64) + zeros
        zeros = int(units[-1])
        units = units[block < cap]
        # Each weight takes a place itself, after the low bits of its gap.
        steps = unpack_fixed(low, units.size, low_bits, offset=start, dtype=np.int64)
        start += low_bits * units.size
        steps += 1
        np.cumsum(steps, out=steps)
        steps += position
        if steps.size:
            position = int(steps[-1])
        units <<= low_bits
        units += steps
        yield units


def check(most: int, last: int, cap: int, offset: int) -> None:
    """Rejects gap symbols that no writer makes.

    Args:
        most: The greatest symbol.
        last: The last symbol.
        cap: The filler.
        offset: Where the symbols are, in bytes, for the error.

    Raises:
        FormatError: G5, G6.
    """
    if most > cap:
        raise FormatError(
            f"gap symbol {most} is above the filler, {cap}", offset=offset, clause="G5"
        )
    if last == cap:
        raise FormatError("the last gap is a filler", offset=offset, clause="G6")


def check_end(end: int, size: int, offset: int) -> None:
    """Rejects gaps that end beyond a tensor.

    Args:
        end: The position after the last weight.
        size: Number of values in the tensor.
        offset: Where the gaps are, in bytes, for the error.

    Raises:
        FormatError: L7.
    """
    if end > size:
        raise FormatError(
            f"gaps reach position {end - 1} of {size}", offset=offset, clause="L7"
        )
