"""Steps for all leaves of a network, from histograms: how many bits, which error.

A step is one number for the whole network times the mean magnitude of its leaf, so that
each leaf has about the same error relative to itself; that of tables is greater, since
a row is looked up alone and its errors are not added up in products. (Mean magnitudes
say what is usual better than root mean squares, which outliers raise: with MiniLM, one
per cent of the bytes.)
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from deepcomp_jax import codings
from deepcomp_jax.format.file_header import CHECKSUM_BYTES, SMALL
from deepcomp_jax.rate import grids
from deepcomp_jax.rate.histograms import Histogram

TABLES = 2.5  # how much coarser steps of tables are
_LADDER = 16  # steps an octave: leaves that are nearly alike have one, and share a rule
_MANY = 256  # leaves of which all are looked at; of more small ones a sample
_LOOKS = 40
_CLOSE = 1e-3  # relative: of the bits, or of the step, at which a search ends
_FINEST = 2.0**-16  # relative step; no grid of 1000 entries is finer
_CHECKSUM_BITS = 8 * CHECKSUM_BYTES  # of a body that is not in the header
_HEADER_BITS = 8 * 10  # layout and size of a leaf, and the step and ends of its grid


class TooSmall(ValueError):
    """No steps give so small a file.

    Attributes:
        least: Bytes that it has at the least, about.
    """

    def __init__(self, target: float, least: float) -> None:
        """Builds the error from bits of the file that were asked for, and the least."""
        super().__init__(
            f"no steps give a file of {target / 8:.0f} bytes, the least is about "
            f"{least / 8:.0f}: quantize more leaves, prune, or allow more"
        )
        self.least = math.ceil(least / 8)


class PlannedLeaf(NamedTuple):
    """A leaf that gets a step.

    Attributes:
        shape: Of the leaf.
        dtype: Of the leaf.
        histogram: Of its values, of which some are not zero.
        unit: Mean magnitude of those, times what suits a table if it is one.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    histogram: Histogram
    unit: float

    def step(self, relative: float) -> float:
        """The step that a relative one stands for, and that `multiples` takes."""
        rung = round(_LADDER * math.log2(self.unit)) / _LADDER
        return self.fitting(relative * 2**rung)

    def multiplied(self) -> "PlannedLeaf":
        """The same leaf, as one that is no table."""
        return planned(self.shape, self.dtype, False, self.histogram)

    def fitting(self, step: float) -> float:
        """The step that a grid takes if it is asked for one."""

        def count(tried: float) -> int:
            return self.histogram.labels(tried)[0].size

        return grids.fitting(count, step, self.dtype)


def planned(
    shape: tuple[int, ...], dtype: np.dtype, table: bool, histogram: Histogram
) -> PlannedLeaf:
    """A leaf that gets a step, from its histogram.

    Args:
        shape, dtype, histogram: As in `PlannedLeaf`.
        table: Whether its rows are looked up.
    """
    unit = histogram.magnitude() * (TABLES if table else 1)
    return PlannedLeaf(shape, dtype, histogram, unit)


def bits(leaf: PlannedLeaf, step: float) -> float:
    """About what a leaf takes in a file, in bits, with its codebook.

    Args:
        leaf: The leaf.
        step: Of its grid.
    """
    factors, counts = leaf.histogram.labels(step)
    is_zero = factors == 0
    labels = np.append(counts[is_zero].sum(), counts[~is_zero])
    entries = factors[~is_zero]
    known = codings.Leaf(leaf.shape, entries.size, int((entries < 0).sum()))
    listed = 8 * leaf.dtype.itemsize * entries.size
    span = factors[-1] - factors[0] + 1
    grid = 0 if span == max(factors.size, entries.size + 1) else span
    body = codings.estimate(labels, known)
    outside = _CHECKSUM_BITS if body >= 8 * SMALL else 0
    return body + outside + min(listed, grid) + _HEADER_BITS


def find_relative_step(
    leaves: Sequence[PlannedLeaf], target: float, fixed: float
) -> float:
    """The relative step at which a file has about so many bits.

    Args:
        leaves: Those that get steps, at least one.
        target: Of the file, in bits.
        fixed: What all else takes of it.

    Raises:
        TooSmall: It has more at any step.
    """
    some = sample(leaves)

    def total(log_step: float) -> float:
        relative = math.exp(log_step)
        return fixed + sum(n * bits(leaf, leaf.step(relative)) for leaf, n in some)

    greatest = max(
        float(np.abs(leaf.histogram.values[[0, -1]]).max()) / leaf.unit
        for leaf in leaves
    )
    low, high = math.log(_FINEST), math.log(2.5 * greatest)  # at which all become zero
    if (least := total(high)) > target:
        raise TooSmall(target, least)
    values = sum(leaf.histogram.size for leaf in leaves)
    start = math.log(5) - math.log(2) * target / values  # so many bits a Gaussian takes
    return math.exp(descend(total, target, (low, high), start, values))


def descend(
    total: Callable[[float], float],
    target: float,
    ends: tuple[float, float],
    start: float,
    values: int,
) -> float:
    """Where bits, which fall as the logarithm of a step grows, are just below a target.

    Args:
        total: The bits.
        target: At most so many.
        ends: Between which to look; the second one if there are too many anywhere.
        start: Where to look first.
        values: For how many values there are bits.
    """
    low, high = ends
    more = less = None
    at = start
    for _ in range(_LOOKS):
        at = min(max(at, 0.98 * low + 0.02 * high), 0.02 * low + 0.98 * high)
        found = total(at)
        if found > target:
            low, more = at, found
        else:
            high, less = at, found
        if high - low < _CLOSE or 0 <= target - found < _CLOSE * target:
            break
        if more is None or less is None:  # a factor of two takes a bit from each value
            at += math.log(2) * (found - (1 - _CLOSE / 2) * target) / values
        else:
            part = (more - (1 - _CLOSE / 2) * target) / (more - less)
            at = low + min(max(part, 0.05), 0.95) * (high - low)
    return high


def step_within(leaf: PlannedLeaf, max_error: float) -> float | None:
    """The coarsest step of a relative error, in root mean square; None if none is.

    Args:
        leaf: The leaf.
        max_error: The error divided by the root mean square of the values not zero.
    """
    rms = math.sqrt(leaf.histogram.power())
    limit = (max_error * rms) ** 2

    def fits(step: float) -> bool:
        return leaf.histogram.distortion(step) <= limit

    safe = 2 * max_error * rms  # no value moves by more than half of this
    low, high = safe, 4 * safe
    while high - low > _CLOSE * low:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    for wanted in (low, safe):  # a step between them need not fit
        rung = math.floor(_LADDER * math.log2(wanted * (1 - 2**-8))) / _LADDER
        step = leaf.fitting(2**rung)
        if fits(step):
            return step
    return None


def sample(leaves: Sequence[PlannedLeaf]) -> list[tuple[PlannedLeaf, float]]:
    """The largest leaves, and some of the others, that each stand for several."""
    order = sorted(leaves, key=lambda leaf: -leaf.histogram.size)
    large, small = order[:_MANY], order[_MANY:]
    every = -(-len(small) // _MANY) or 1
    chosen = small[every // 2 :: every]
    times = len(small) / max(len(chosen), 1)
    return [(leaf, 1.0) for leaf in large] + [(leaf, times) for leaf in chosen]
