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

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError

MAX_BITS = 16
MAX_SIZE = 1 << 62  # of a tensor, where nobody says


def encode(
    positions: NDArray[np.integer], *, bits: int, low_bits: int = 0
) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
    """Gap symbols of the kept weights of a tensor, and the low bits of their gaps.

    Args:
        positions: Indices of the kept weights in the flattened tensor, ascending,
            int[n].
        bits: Width of a symbol, 1 to 16.
        low_bits: Of a gap, that are no part of its symbol; the symbol counts units of
            2**low_bits zeros.

    Returns:
        The symbols, uint16[n + fillers], and the low bits, uint64[n].

    Raises:
        ValueError: The positions are negative or not strictly ascending, or the
            width is out of range.
    """
    cap = _cap(bits)
    zeros = np.diff(positions.astype(np.int64), prepend=-1) - 1
    if zeros.size and zeros.min() < 0:
        at = int(np.flatnonzero(zeros < 0)[0])
        raise ValueError(
            "positions must be non-negative and strictly ascending, but "
            f"positions[{at}] is {int(positions[at])}"
        )
    units = zeros >> low_bits
    low = (zeros - (units << low_bits)).astype(np.uint64)
    fillers = units // cap
    last = np.cumsum(fillers + 1) - 1
    symbols = np.full(last[-1] + 1 if last.size else 0, cap, np.uint16)
    symbols[last] = units - fillers * cap
    return symbols, low


def decode(
    symbols: NDArray[np.unsignedinteger],
    low: NDArray[np.unsignedinteger] | None = None,
    *,
    bits: int,
    size: int = MAX_SIZE,
    low_bits: int = 0,
    offset: int = 0,
) -> NDArray[np.int64]:
    """Positions of the kept weights, from the symbols and low bits of their gaps.

    Args:
        symbols: Gap symbols, uint[g].
        low: Low bits, uint[n]; None if there are none.
        size: Of the tensor.
        bits: Width of a symbol, 1 to 16.
        low_bits: Number of low bits, at most 32.
        offset: Where the symbols lie in the file, in bytes, for the error.

    Returns:
        int64[n], strictly ascending, below `size`.

    Raises:
        FormatError: if a symbol has more than `bits` bits, the last is a filler, or
            the gaps lead beyond the tensor.
        ValueError: The width is out of range.
    """
    cap = _cap(bits)
    if symbols.size:
        check(int(symbols.max()), int(symbols[-1]), cap, offset)
    # In Python's integers: hostile gaps would overflow others.
    units = int(symbols.sum(dtype=np.uint64))
    rests = 0 if low is None else int(low.sum(dtype=np.uint64))
    end = (units << low_bits) + rests + int(np.count_nonzero(symbols != cap))
    check_end(end, size, offset)
    weight = symbols != cap
    positions = np.cumsum(symbols, dtype=np.int64)[weight]
    positions <<= low_bits
    steps = np.ones(positions.size, np.int64)  # in place: these may be large
    if low is not None:
        np.add(steps, low, out=steps, casting="unsafe")
    positions += np.cumsum(steps, out=steps)
    positions -= 1
    return positions


def decode_slow(
    symbols: NDArray[np.unsignedinteger],
    low: NDArray[np.uint64] | None = None,
    *,
    bits: int,
    low_bits: int = 0,
) -> list[int]:
    """The same as `decode`, symbol by symbol, for any size: its oracle."""
    cap = _cap(bits)
    if symbols.size:
        check(int(symbols.max()), int(symbols[-1]), cap, 0)
    rest = iter([0] * symbols.size if low is None else low.tolist())
    positions: list[int] = []
    here = 0
    for symbol in symbols.tolist():
        here += symbol << low_bits
        if symbol < cap:
            here += next(rest)
            positions.append(here)
            here += 1
    return positions


def fillers(symbols: NDArray[np.unsignedinteger], *, bits: int) -> int:
    """How many of the symbols are fillers."""
    return int(np.count_nonzero(symbols == _cap(bits)))


def _cap(bits: int) -> int:
    """The filler, which is also the number of zeros that it stands for."""
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"a gap must have 1 to {MAX_BITS} bits, got {bits}")
    return (1 << bits) - 1


def check(most: int, last: int, cap: int, offset: int) -> None:
    """Rejects gap symbols that no writer makes.

    Args:
        most: The greatest of them.
        last: The last of them.
        cap: The filler.
        offset: Where they are.

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
        size: Of the tensor.
        offset: Where the gaps are.

    Raises:
        FormatError: L7.
    """
    if end > size:
        raise FormatError(
            f"gaps reach position {end - 1} of {size}", offset=offset, clause="L7"
        )
