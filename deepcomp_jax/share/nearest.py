"""Nearest entries of a codebook for values on the host, at the speed of memory.

The first bits of a value (sign, exponent and the start of the mantissa) say where among
the borders of the entries it is: beside none, or beside one, to which it is compared.
Types of two bytes or fewer are looked up whole. A search is left for small arrays, and
for values that share their first bits with two borders or more. All passes are made in
blocks that fit a cache, within NumPy, and let other threads run.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import ml_dtypes
import numpy as np

_BLOCK = 1 << 16
_MANY = 1 << 14  # values that are worth a table
_VERY_MANY = 1 << 20  # and those that are worth a large one
_MANTISSA = {4: 23, 8: 52}  # bits, by the width in bytes


def labels(values: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Labels each value with the nearest entry; ties go to the lower one.

    Args:
        values: Of the codebook's dtype, any shape, without NaN.
        codebook: `[k]`, strictly ascending, at most 65,535 entries.

    Returns:
        uint8 for at most 255 entries, else uint16: 0 where the value is zero, else the
        index in the codebook plus 1.
    """
    found = np.zeros(values.shape, np.uint8 if len(codebook) < 256 else np.uint16)
    if len(codebook) == 0:
        return found
    flat, out = values.ravel(), found.ravel()
    find = _finder(flat, boundaries(codebook), found.dtype)
    for at in range(0, flat.size, _BLOCK):
        out[at : at + _BLOCK] = find(flat[at : at + _BLOCK])
    return found


def _finder(
    flat: np.ndarray, borders: np.ndarray, dtype: np.dtype
) -> Callable[[np.ndarray], np.ndarray]:
    """What finds the labels of a block."""
    if flat.size < _MANY:
        return partial(_searched, borders=borders)
    if flat.dtype.itemsize <= 2:
        codes = np.dtype(f"u{flat.dtype.itemsize}")
        every = np.arange(256**codes.itemsize, dtype=codes).view(flat.dtype)
        with np.errstate(invalid="ignore"):  # of NaN
            of_code = _searched(every, borders).astype(dtype)
        return lambda block: of_code.take(block.view(codes))
    table = _table(borders, 7, dtype)
    if table.crowded is not None and flat.size > _VERY_MANY:
        table = _table(borders, 11, dtype)
    return partial(_looked_up, table=table, borders=borders)


def _searched(block: np.ndarray, borders: np.ndarray) -> np.ndarray:
    if block.dtype.itemsize < 4:
        block, borders = block.astype(np.float32), borders.astype(np.float32)
    found = np.searchsorted(borders, block) + 1
    return np.where(block == 0, 0, found)


class _Table(NamedTuple):
    """By the first bits of a value."""

    shift: int  # how many bits come after them
    label: np.ndarray  # of the least value that begins so
    border: np.ndarray  # beyond which the label is one more, or infinity
    crowded: np.ndarray | None  # whether there are more borders, if there are anywhere


def _table(borders: np.ndarray, bits: int, dtype: np.dtype) -> _Table:
    """A table by the sign, the exponent and so many bits of the mantissa."""
    width = 8 * borders.dtype.itemsize
    shift = _MANTISSA[borders.dtype.itemsize] - bits
    half = 1 << (width - shift - 1)
    first = (borders.view(f"u{borders.dtype.itemsize}") >> shift).astype(np.int64)
    # In the order of values, those that begin with the sign come first, reversed.
    place = np.where(first < half, half + first, 2 * half - 1 - first)
    count = np.bincount(place, minlength=2 * half)
    label = (np.cumsum(count) - count + 1).astype(dtype)
    border = np.full(2 * half, np.inf, borders.dtype)
    border[place] = borders
    crowded = _by_bits(count > 1) if count.max(initial=0) > 1 else None
    return _Table(shift, _by_bits(label), _by_bits(border), crowded)


def _by_bits(in_order: np.ndarray) -> np.ndarray:
    """What is in the order of values, in that of their bits as unsigned integers."""
    half = in_order.size // 2
    return np.concatenate([in_order[half:], in_order[:half][::-1]])


def _looked_up(block: np.ndarray, table: _Table, borders: np.ndarray) -> np.ndarray:
    bits = block.view(f"u{block.dtype.itemsize}")
    key = (bits >> table.shift).astype(np.intp)
    found = table.label.take(key)
    found += block > table.border.take(key)
    if table.crowded is not None:
        at = np.flatnonzero(table.crowded.take(key))
        found[at] = np.searchsorted(borders, block[at]) + 1
    found *= block != 0
    return found


def boundaries(codebook: np.ndarray) -> np.ndarray:
    """The largest value of the dtype that is no further from the lower neighbor."""
    wide = codebook.astype(np.float64)
    huge = np.abs(wide).max() > 2.0**1000  # so that a sum would overflow
    lower, upper = (wide[:-1] / 4, wide[1:] / 4) if huge else (wide[:-1], wide[1:])
    # Twice the middle is `total + rest`, exactly (Knuth, TAOCP 2, section 4.2.2).
    total = lower + upper
    added = total - lower
    rest = (lower - (total - added)) + (upper - added)
    middle = (total * 2 if huge else total / 2).astype(codebook.dtype)
    twice = middle.astype(np.float64) * (0.5 if huge else 2.0)
    too_high = (twice > total) | ((twice == total) & (rest < 0))
    below = np.nextafter(middle, -greatest(codebook.dtype))
    return np.where(too_high, below, middle)


def greatest(dtype: np.dtype) -> np.ndarray:
    """Infinity, or the greatest finite value of a dtype that has none, as of float8."""
    infinity = np.array(np.inf).astype(dtype)
    if np.isinf(infinity):
        return infinity
    return np.array(ml_dtypes.finfo(dtype).max, dtype)
