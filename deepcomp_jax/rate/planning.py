"""Steps for all leaves of a network, from histograms: how many bits, which error.

A step is one number for the whole network times the mean magnitude of its leaf, so that
each leaf has about the same error relative to itself; that of large tables is greater,
since a row is looked up alone and its errors are not added up in products. (Mean
magnitudes say what is usual better than root mean squares, which outliers raise: with
MiniLM, one percent of the bytes.) Within a leaf that is no table, rows and columns of
unequal size have scales, see `share.scaled`.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import codings
from deepcomp_jax.format import codebook_header
from deepcomp_jax.format.records import CHECKSUM_BYTES, SMALL
from deepcomp_jax.rate import grids
from deepcomp_jax.rate.histograms import Histogram, histogram
from deepcomp_jax.rules import ShareMethod
from deepcomp_jax.share.nearest import labels
from deepcomp_jax.share.scaling import divided, halfway, scaled

TABLES = 2.5  # how much coarser steps of tables are
_SMALL_TABLE = 0.05  # of all weights; a smaller table would save next to nothing
_LADDER = 16  # steps an octave: leaves that are nearly alike have one, and share a rule
_MANY = 256  # leaves of which all are looked at; of more small ones a sample
_LOOKS = 40
_CLOSE = 1e-3  # relative: of the bits, or of the step, at which a search ends
_FINEST = 2.0**-16  # relative step; no grid of 1000 entries is finer
_CHECKSUM_BITS = 8 * CHECKSUM_BYTES  # of a body that is not in the header
_LAYOUT_BITS = 8 * 5  # of a leaf: its layout, and the size of its body
_SCALES_BITS = 8 * 4  # of their split, and the sizes of their bodies
_NUMBER_BITS = 8  # of a leaf whose codebook is that of one before it


class TooFewBytes(ValueError):
    """No steps make so small a file.

    Attributes:
        least: Bytes that it has at the least, about.
    """

    def __init__(self, max_bytes: float, least: float) -> None:
        """Builds the error from the bytes that were asked for, and the least."""
        super().__init__(
            f"no steps give a file of {max_bytes:.0f} bytes, the least is about "
            f"{least:.0f}: allow more, prune, or quantize more leaves by rules"
        )
        self.least = math.ceil(least)


class PlannedLeaf(NamedTuple):
    """A leaf that gets a step.

    Attributes:
        shape: Of the leaf.
        dtype: Of the leaf.
        histogram: Of its values, of which some are not zero.
        unit: Mean magnitude of those, times what suits a table if it is one.
        scale_bits: What scales of rows and columns take in a file, in bits, and None if
            the leaf has none; values are those that are left without them.
        lengths: Of axes of matrices that may have scales.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    histogram: Histogram
    unit: float
    scale_bits: int | None = None
    lengths: Collection[int] = ()

    def step(self, relative: float) -> float:
        """The step that a relative one stands for, and that `multiples` takes."""
        rung = round(_LADDER * math.log2(self.unit)) / _LADDER
        return self.fitting(relative * 2**rung)

    def multiplied(self) -> "PlannedLeaf":
        """The same leaf, as one that is no table."""
        return self._replace(unit=self.histogram.magnitude())

    def method(self, step: float) -> ShareMethod:
        """What shares the leaf at a step."""
        found = grids.multiples(step)
        return found if self.scale_bits is None else scaled(found, self.lengths)

    def fitting(self, step: float) -> float:
        """The step that a grid takes if it is asked for one."""

        def count(tried: float) -> int:
            return self.histogram.labels(tried)[0].size

        return grids.fitting(count, step, self.dtype)


def large_tables(
    chosen: Mapping[str, bool], named: Mapping[str, Any]
) -> dict[str, bool]:
    """Which weights have the coarser steps of tables.

    Args:
        chosen: Whether each weight is a table, by name.
        named: At least these leaves, which have shapes.
    """
    sizes = {name: math.prod(named[name].shape) for name in chosen}
    least = _SMALL_TABLE * sum(sizes.values())
    return {name: table and sizes[name] >= least for name, table in chosen.items()}


def planned(
    leaf: np.ndarray, table: bool, lengths: Collection[int] | None
) -> PlannedLeaf:
    """A leaf that gets a step.

    Args:
        leaf: Its values.
        table: Whether its rows are looked up; then it has no scales.
        lengths: Of axes of matrices that may have scales, as `scaled` takes them; None
            if there are to be none at all.

    Raises:
        ValueError: There is NaN or infinity.
    """
    may = lengths is not None and not table
    exponents = halfway(leaf, lengths or ()) if may else None
    if exponents is None:
        found, bits = histogram(leaf), None
    else:
        found = histogram(divided(leaf, exponents))
        bits = exponents.bits() + _SCALES_BITS
    unit = found.magnitude() * (TABLES if table else 1)
    return PlannedLeaf(leaf.shape, leaf.dtype, found, unit, bits, lengths or ())


def total_bits(some: Sequence[tuple[PlannedLeaf, float]], relative: float) -> float:
    """About what leaves take in a file at one relative step, in bits.

    A codebook of several leaves is in the file once, and the others have its number; so
    it is with leaves that are all zero.

    Args:
        some: Leaves, and how many each stands for, from `sample`.
        relative: The step.
    """
    priced = [(times, _priced(leaf, leaf.step(relative))) for leaf, times in some]
    uses = Counter(found.key for _, found in priced)
    total, written = 0.0, set[object]()
    for times, found in priced:
        new = times if uses[found.key] == 1 else found.key not in written
        written.add(found.key)
        total += times * found.own + new * found.codebook
        total += (times - new) * _NUMBER_BITS
    return total


class _Priced(NamedTuple):
    """What a leaf takes in a file, in bits.

    Attributes:
        own: Its body, and what the header says of it.
        codebook: Its codebook, or all of it if it is zero; of several that are equal,
            the file has one.
        key: What is equal where those are.
    """

    own: float
    codebook: float
    key: object


def _priced(leaf: PlannedLeaf, step: float) -> _Priced:
    every, counts = _entries(leaf, step)
    is_zero = every == 0
    occurring = np.append(counts[is_zero].sum(), counts[~is_zero])
    codebook = every[~is_zero]
    if not codebook.size:  # all is zero, and equal to other leaves of which all is
        return _Priced(_NUMBER_BITS, _LAYOUT_BITS, (leaf.dtype, leaf.shape))
    known = codings.Leaf(leaf.shape, codebook.size, int((codebook < 0).sum()))
    body = codings.estimate(occurring, known)
    outside = _CHECKSUM_BITS if body >= 8 * SMALL else 0
    written = 8 * len(codebook_header.put(codebook)[1])
    key = leaf.dtype, codebook.tobytes()
    return _Priced(body + outside + _LAYOUT_BITS + (leaf.scale_bits or 0), written, key)


def _entries(leaf: PlannedLeaf, step: float) -> tuple[np.ndarray, NDArray[np.int64]]:
    """The multiples of a step in the dtype of a leaf, and how many values take each."""
    found = leaf.histogram
    limits = ml_dtypes.finfo(leaf.dtype)
    wide = step * found.labels(step)[0]
    every = np.unique(
        wide.clip(float(limits.min), float(limits.max)).astype(leaf.dtype)
    )
    nearest = labels(found.values.astype(leaf.dtype), every)
    counts = np.bincount(nearest, found.counts, every.size + 1).astype(np.int64)
    # A value that is too small for the dtype is zero, and so has no label.
    counts[1:][every == 0] += found.zeros + counts[0]
    return every, counts[1:]


def find_relative_step(
    leaves: Sequence[PlannedLeaf], target: float, fixed: float
) -> float:
    """The relative step at which a file has about so many bits.

    Args:
        leaves: Those that get steps, at least one.
        target: Of the file, in bits.
        fixed: What all else takes of it.

    Raises:
        TooFewBytes: It has more at any step.
    """
    some = sample(leaves)

    def total(log_step: float) -> float:
        return fixed + total_bits(some, math.exp(log_step))

    greatest = max(
        float(np.abs(leaf.histogram.values[[0, -1]]).max()) / leaf.unit
        for leaf in leaves
    )
    low, high = math.log(_FINEST), math.log(2.5 * greatest)  # at which all become zero
    if (least := total(high)) > target:
        raise TooFewBytes(target / 8, least / 8)
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
