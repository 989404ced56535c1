"""Models of the symbols in a rANS stream, in integers: equal on every machine.

Three kinds: frequencies that are in the file, rounded to quarters of a power of two;
those that fall off from zero on both sides by a factor, which take one byte; and those
of gaps between weights that are kept at random, which follow from a count.
"""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import common
from deepcomp_jax.streams import bits, rans

CODE_BITS = 6  # of a frequency in the file
MAX_CODE = (1 << CODE_BITS) - 1
MAX_FALLING = 64
MAX_SYMBOLS = 1024  # of a table: more would leave too little for the frequent ones
CAP = 32  # the escape of a gap: so many of its units, and no weight

# 2**16 times 2**0, 2**(1/4), 2**(1/2) and 2**(3/4).
_ROOTS = np.array([65536, 77936, 92682, 110218], np.uint64)
_ONE = 32  # bits of a probability


def quantize(counts: NDArray[np.integer]) -> NDArray[np.uint8]:
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


def falling(code: int, entries: int, negatives: int) -> NDArray[np.uint32]:
    """Frequencies that fall by one factor from entry to entry away from zero.

    Args:
        code: 1 to 64; code - 1 is a number q, of which a quarter e and the rest r give
            the mean distance from the entry next to zero, (4 + r) * 2**e / 16.
        entries: Number of entries of the codebook.
        negatives: Number of entries below zero.

    Returns:
        uint32[entries], 4096 in all.
    """
    codes = np.array([code])
    return _shares(_falling(codes, entries, negatives), everything=True)[0]


def _falling(
    codes: NDArray[np.integer], entries: int, negatives: int
) -> NDArray[np.uint64]:
    """Weights of entries for each code, uint64[codes, entries]."""
    most = max(negatives, entries - negatives)
    away = np.array([_falling_away(code, most) for code in codes.tolist()])
    return np.hstack([away[:, :negatives][:, ::-1], away[:, : entries - negatives]])


@functools.lru_cache(maxsize=1024)
def _falling_away(code: int, size: int) -> NDArray[np.uint64]:
    """Weights of the entry next to zero and of those further away, uint64[size]."""
    mean = (4 + (code - 1) % 4) << (code - 1) // 4  # in sixteenths
    factor = (mean << _ONE) // (mean + 16)
    weights, now = np.zeros(size, np.uint64), 1 << (_ONE - 1)
    for index in range(size):
        weights[index] = now
        now = now * factor >> _ONE
    weights.flags.writeable = False  # it is returned again
    return weights


class Tables(NamedTuple):
    """Models of the indices, as they are in the file.

    Attributes:
        codes: The code of each table: 0 if its frequencies are in the file, else the
            code of `falling`; uint8[tables].
        frequencies: The codes of frequencies, uint8[tables, entries]; used by tables of
            code 0.
    """

    codes: NDArray[np.uint8]
    frequencies: NDArray[np.uint8]


def fit(
    counts: NDArray[np.int64], negatives: int
) -> tuple[Tables, NDArray[np.float64]]:
    """The cheaper of both kinds for each row of counts.

    Args:
        counts: How often each entry is used, int64[tables, entries], each row some.
        negatives: Entries below zero.

    Returns:
        The tables, and the bits of each with all the indices that it codes.
    """
    entries = counts.shape[1]
    explicit = quantize(counts)
    bits_of = _words(counts, frequencies(explicit)) + CODE_BITS * entries
    distance = np.arange(entries) - negatives
    distance = np.where(distance < 0, -1 - distance, distance)
    means = 16 * (counts @ distance) / np.maximum(counts.sum(axis=1), 1)
    near = np.rint(4 * np.log2(np.maximum(means, 4) / 4)).astype(np.int64) + 1
    tried = np.clip(near[:, None] + np.arange(-2, 3), 1, MAX_FALLING)
    shares = _shares(_falling(tried.ravel(), entries, negatives), everything=True)
    prices = _words(counts[:, None], shares.reshape(*tried.shape, entries))
    best = np.arange(len(counts)), prices.argmin(axis=1)
    falls = prices[best] < bits_of
    codes = np.where(falls, tried[best], 0).astype(np.uint8)
    return Tables(codes, explicit), np.where(falls, prices[best], bits_of) + 8


def _words(
    counts: NDArray[np.int64], shares: NDArray[np.uint32]
) -> NDArray[np.float64]:
    sizes = rans.PRECISION - np.log2(np.maximum(shares, 1))
    return np.asarray((counts * sizes).sum(axis=-1), np.float64)


def low_bits(size: int, gaps: int) -> int:
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
    for _ in range(low_bits(size, gaps)):
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


def put_tables(tables: Tables) -> bytes:
    """Writes tables: a byte each, and frequencies where that is 0."""
    out: list[bytes] = []
    for code, row in zip(tables.codes.tolist(), tables.frequencies, strict=True):
        out += [bytes([code]), b"" if code else put(row)]
    return b"".join(out)


def get_tables(
    data: bytes, pos: int, count: int, leaf: common.Leaf
) -> tuple[int, NDArray[np.uint32]]:
    """Reads tables: the position after them, and frequencies, uint32[count, entries].

    Raises:
        FormatError: L1 to L3.
    """
    rows: list[NDArray[np.uint32]] = []
    for _ in range(count):
        start = pos
        pos, code = common.get_byte(data, pos)
        if code > MAX_FALLING or not leaf.entries:
            raise FormatError(
                f"a table of code {code} for {leaf.entries} entries",
                offset=start,
                clause="L3",
            )
        if code:
            rows.append(falling(code, leaf.entries, leaf.negatives))
        else:
            pos, codes = get(data, pos, leaf.entries)
            rows.append(frequencies(codes[None])[0])
    return pos, np.array(rows)


def put(codes: NDArray[np.uint8]) -> bytes:
    """Writes the codes of frequencies, uint8[alphabet]."""
    return bits.pack_fixed(codes, CODE_BITS)


def get(data: bytes, pos: int, alphabet: int) -> tuple[int, NDArray[np.uint8]]:
    """Reads what `put` wrote: the position after it, and uint8[alphabet].

    Raises:
        FormatError: L1 to L3.
    """
    end, fields = common.get_fields(data, pos, alphabet, CODE_BITS)
    if not fields.any():
        raise FormatError("a model without a symbol", offset=pos, clause="L3")
    return end, fields.astype(np.uint8)
