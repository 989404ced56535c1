"""Histograms of floating values by their bits: large inputs without a sort.

Types of two bytes or fewer have a bin for each value. Of wider ones a bin holds the
values of one sign that agree in their exponent and in the first bits of the mantissa:
the smaller the values, the finer the bins, and none reaches across zero, so that the
gap of pruned weights stays empty. All passes go through NumPy in blocks that fit a
cache, and leave the interpreter to other threads meanwhile.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FEW = 2048  # in so few bins there may be as few different values


class Histogram(NamedTuple):
    """Bins that hold values, in ascending order.

    Attributes:
        values: float64[n], strictly ascending: the mean of the values in each bin.
        weight: float64[n]: how many values a bin holds, or the sum of their weights;
            never 0.
        width: float64[n]: of each bin; 0 where all its values are the same.
    """

    values: Floats
    weight: Floats
    width: Floats


class _Bins(NamedTuple):
    """Where a value goes: the bins of negative values come first, far from zero."""

    shift: int  # bits of a float32 that do not count
    lowest: int  # the magnitude of the first bin beside zero, shifted
    half: int  # number of bins of each sign
    scale: float  # a power of two that brings values into the range of float32


def histogram(
    flat: np.ndarray, weights: Floats | None, bits: int, octaves: int = 20
) -> Histogram | None:
    """Puts values into bins, with the same result in any order if none are weighted.

    Args:
        flat: Real numbers, `[n]`, at least one.
        weights: float64[n], not negative; None counts each value once.
        bits: How many bits of the mantissa tell bins apart, 1 to 22; of no effect for
            types of two bytes or fewer.
        octaves: How far below the greatest magnitude bins reach; what is smaller still
            shares one of each sign.

    Returns:
        The bins; None if a value is not finite, all weights are zero, or no more than
        2048 bins are in use and some hold values that differ.
    """
    if flat.dtype.itemsize <= 2 and flat.dtype.kind not in "iub":
        return _of_short_type(flat, weights)
    size = 1 << max(16, bits + 5)  # no fewer values than bins that are added up
    blocks = [slice(at, at + size) for at in range(0, flat.size, size)]
    greatest = max(float(np.abs(_floats(flat[block])).max()) for block in blocks)
    if not np.isfinite(greatest):
        return None
    bins = _bins(greatest, flat.dtype == np.float32, 23 - bits, octaves)
    weight, low = np.zeros((2, 2 * bins.half))
    for block in blocks:
        index, rest = _located(flat[block], bins)
        if weights is None:
            weight += np.bincount(index, minlength=weight.size)
        else:
            weight += np.bincount(index, weights[block], weight.size)
            rest *= weights[block]
        low += np.bincount(index, rest, weight.size)
    used = np.flatnonzero(weight)
    if not used.size:
        return None
    if used.size > _FEW:
        return _described(used, weight[used], low[used], bins)
    alike = np.zeros(weight.size, flat.dtype)
    for block in blocks:
        alike[_located(flat[block], bins)[0]] = flat[block]
    for block in blocks:
        if (alike[_located(flat[block], bins)[0]] != flat[block]).any():
            return None
    return _merged(alike[used].astype(np.float64), weight[used], np.zeros(used.size))


def _of_short_type(flat: np.ndarray, weights: Floats | None) -> Histogram | None:
    """One bin for each value of a type that has 65,536 at most."""
    codes = flat.view(f"u{flat.dtype.itemsize}")
    weight = np.zeros(256**flat.dtype.itemsize)
    for at in range(0, flat.size, 1 << 17):
        block = slice(at, at + (1 << 17))
        own = None if weights is None else weights[block]
        weight += np.bincount(codes[block], own, weight.size)
    used = np.flatnonzero(weight)
    values = used.astype(codes.dtype).view(flat.dtype).astype(np.float64)
    finite = used.size and np.isfinite(values).all()
    return _merged(values, weight[used], np.zeros(used.size)) if finite else None


def _merged(values: Floats, weight: Floats, width: Floats) -> Histogram:
    """Bins in order, those of zero and of negative zero made one."""
    distinct, first, index = np.unique(
        values + 0.0, return_index=True, return_inverse=True
    )
    total = np.bincount(index, weight).astype(np.float64)
    return Histogram(distinct, total, width[first])


def _bins(greatest: float, is_single: bool, shift: int, octaves: int) -> _Bins:
    exponent = int(np.clip(np.frexp(greatest)[1], -1000, 1000))
    scale = 1.0 if is_single else float(np.ldexp(1.0, -exponent))
    top = int(np.float32(greatest * scale).view(np.uint32)) >> shift
    lowest = max(0, top - (octaves << (23 - shift)))
    return _Bins(shift, lowest, top - lowest + 1, scale)


def _floats(block: np.ndarray) -> np.ndarray:
    return block if block.dtype == np.float32 else block.astype(np.float64, copy=False)


def _located(
    block: np.ndarray, bins: _Bins
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The bin of each value, and the bits of its magnitude that do not count."""
    if block.dtype != np.float32:
        block = (_floats(block) * bins.scale).astype(np.float32)
    signed = block.view(np.int32)
    magnitude = signed & 0x7FFFFFFF
    key = magnitude >> bins.shift
    np.maximum(key, bins.lowest, out=key)
    key -= bins.lowest
    key ^= signed >> 31  # k becomes -1 - k below zero
    key += bins.half
    magnitude &= (1 << bins.shift) - 1
    return key.astype(np.intp), magnitude.astype(np.float64)


def _described(
    used: NDArray[np.intp], weight: Floats, low: Floats, bins: _Bins
) -> Histogram:
    """Bins in use, from the sums of weights and of weighted lower bits in each."""
    negative = used < bins.half
    near = np.where(negative, bins.half - 1 - used, used - bins.half)
    first = (near + bins.lowest).astype(np.uint32) << bins.shift
    start = first.view(np.float32).astype(np.float64)
    step = (first + np.uint32(1)).view(np.float32).astype(np.float64) - start
    mean, width = start + step * (low / weight), step * 2.0**bins.shift
    if bins.lowest:  # the bins beside zero reach down to it
        inner = near == 0
        width[inner] += start[inner]
        mean[inner] = width[inner] / 2
    mean[negative] *= -1
    return _merged(mean / bins.scale, weight, width / bins.scale)
