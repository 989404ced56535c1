"""Models of the symbols in a rANS stream, in integers: equal on every machine.

Two kinds: frequencies that are in the file, rounded to quarters of a power of two, and
those of gaps between weights that are kept at random, which follow from a count.
"""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import bits, rans
from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import _body

CODE_BITS = 6  # of a frequency in the file
MAX_CODE = (1 << CODE_BITS) - 1
MAX_SYMBOLS = 1024  # of a table: more would leave too little for the frequent ones
CAP = 32  # the escape of a gap: so many of its units, and no weight

# 2**16 times 2**0, 2**(1/4), 2**(1/2) and 2**(3/4).
_ROOTS = np.array([65536, 77936, 92682, 110218], np.uint64)
_ONE = 32  # bits of a probability


def quantise(counts: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The code of each frequency, from how often symbols occur.

    Args:
        counts: int[..., alphabet].

    Returns:
        uint8[..., alphabet]: 0 for a symbol that does not occur, else j for a frequency
        proportional to 2**(j / 4). The most frequent one has the code 63.
    """
    most = counts.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        steps = np.rint(4 * np.log2(counts / np.maximum(most, 1)))
    codes = np.clip(MAX_CODE + np.maximum(steps, -MAX_CODE), 1, MAX_CODE)
    return np.where(counts > 0, codes, 0).astype(np.uint8)


def frequencies(codes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Frequencies from their codes, uint8[models, alphabet]; 4096 in each row.

    A row without a used symbol is all zeros.
    """
    exponents, quarters = np.divmod(codes, 4)
    weights = _ROOTS[quarters] << exponents.astype(np.uint64)
    return _shares(np.where(codes > 0, weights, np.uint64(0)))


def gap_bits(size: int, gaps: int) -> int:
    """How many low bits of a gap are stored as they are.

    What is left has a mean of about four to eight.

    Args:
        size: Values of the group.
        gaps: Gap symbols in it, at least one.
    """
    return max((size // (4 * gaps)).bit_length() - 1, 0)


def gap_frequencies(size: int, gaps: int) -> NDArray[np.uint32]:
    """Frequencies of the gap symbols of a group, uint32[33].

    Args:
        size: Values of the group.
        gaps: Gap symbols in it, 1 to size.
    """
    one = 1 << _ONE
    stay = ((size - gaps) << _ONE) // size
    for _ in range(gap_bits(size, gaps)):
        stay = stay * stay >> _ONE
    left, weights = one, []
    for _ in range(CAP):
        after = left * stay >> _ONE
        weights.append(left - after)
        left = after
    return _shares(np.array([[*weights, left]], np.uint64), everything=True)[0]


def _shares(
    weights: NDArray[np.uint64], *, everything: bool = False
) -> NDArray[np.uint32]:
    """4096 shared out in proportion; each weight that is used gets one at least.

    What rounding leaves over goes to the first of the greatest.

    Args:
        weights: uint64[models, alphabet], below 2**32 each.
        everything: Whether weights of zero are used too.
    """
    used = np.ones(weights.shape, bool) if everything else weights > 0
    spare = np.uint64(rans.TOTAL) - used.sum(axis=1, dtype=np.uint64)[:, None]
    total = np.maximum(weights.sum(axis=1, dtype=np.uint64)[:, None], np.uint64(1))
    shares = (weights * spare // total + used).astype(np.uint32)
    missing = rans.TOTAL * used.any(axis=1) - shares.sum(axis=1, dtype=np.int64)
    shares[np.arange(len(shares)), weights.argmax(axis=1)] += missing.astype(np.uint32)
    return shares


def put(codes: NDArray[np.uint8]) -> bytes:
    """Writes the codes of the frequencies of all models."""
    return bits.pack_fixed(codes.ravel(), CODE_BITS)


def get(
    data: bytes, pos: int, count: int, alphabet: int
) -> tuple[int, NDArray[np.uint8]]:
    """Reads what `put` wrote: the position after it, and uint8[count, alphabet].

    Raises:
        FormatError: L1 to L3.
    """
    end, fields = _body.get_fields(data, pos, count * alphabet, CODE_BITS)
    codes = fields.astype(np.uint8).reshape(count, alphabet)
    if not codes.any(axis=1).all():
        raise FormatError("a model without a symbol", offset=pos, clause="L3")
    return end, codes
