"""Sharing with scales of rows and columns, which follow from the weights alone.

A codebook serves rows of unequal size better if each has a scale. Where nothing but the
weights is known, nobody can say whether a row is small because it hardly matters or
because what it is multiplied with is large: the same function has networks of both
kinds. In the first case its error should be that of all other rows, in the second one
be in proportion to its size. Scales are the geometric mean of the two.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._types import Scales
from deepcomp_jax.format import scales
from deepcomp_jax.rules import ShareMethod
from deepcomp_jax.share.fitting import fit
from deepcomp_jax.share.labels import find

_POWER = 0.5  # of the size of a row is its scale
_EIGHTHS = 8  # exponents of an octave
_GRAIN = 2  # of exponents; what is finer takes more bits than it saves
_BY_CHANCE = 0.75  # deviation of the magnitudes of a Gaussian, in their mean
_FARTHEST = 2 * _EIGHTHS  # exponents; a unit that died is not to be kept for its scale
_FARTHEST_SIZE = 2 ** (_FARTHEST / _EIGHTHS / _POWER)  # of rows that have that scale
_LEAST_VALUES = 64  # for each exponent, which takes three bits or so
_LEAST_SIZE = 2.0**-105  # of weights; finer steps are no normal numbers of float32
_LEAST_OF_HALF = 2.0**-10
_SAMPLE = 1 << 14  # weights that tell whether a leaf is on a grid
_MOST_ON_GRID = 1000  # different ones among them
_BLOCK = 1 << 16  # weights looked at together


class AxisExponents(NamedTuple):
    """What the weights of a leaf are divided by, in eighths of an octave.

    Attributes:
        first: Of the rows, int8, of the shape of the leaf up to some axis and of length
            1 along all others.
        last: Of the columns, int8, of length 1 up to that axis and of the shape of the
            leaf along all others.
    """

    first: Any
    last: Any

    def as_scales(self) -> Scales:
        """The same as a file has them."""
        longer = [axis for axis, size in enumerate(self.first.shape) if size > 1]
        split = longer[-1] + 1 if longer else 0
        first, last = (np.asarray(own).reshape(1, -1) for own in self)
        return Scales(0, split, first, last)

    def bits(self) -> int:
        """What they take in a file."""
        return 8 * sum(len(scales.put(np.asarray(own).ravel())) for own in self)


@dataclass(frozen=True)
class Scaled:
    """What `scaled` returns: a method that shares what is left without scales.

    Attributes:
        method: That shares it.
        lengths: Of axes of matrices that have scales.
    """

    method: ShareMethod
    lengths: frozenset[int] = frozenset()

    def __call__(self, values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        """The codebook of values that have no scales."""
        return self.method(values, importance)


def scaled(method: ShareMethod, lengths: Collection[int] = ()) -> ShareMethod:
    """A method for weights that are divided by scales of their rows and columns.

    The scale of a row is the root of its mean magnitude, relative to that of the leaf,
    and no more than two octaves from 1; zeros do not count. Leaves of more than two
    axes, as those of convolutions, have scales along the longer one of their first and
    last axes, which mostly are the outputs; along that one alone, since of a
    convolution's inputs small ones matter less. Matrices have scales along axes of
    some lengths, those of normalizations: what comes from these may be large where the
    weights are small. (All was chosen by what a bit less costs in networks of five
    kinds.)

    Leaves that are on a grid already, of other dtypes than float16, bfloat16 and
    float32, of one axis, or of extreme values have no scales, and an axis has none that
    would serve fewer than 64 values each.

    Args:
        method: Finds the codebook of what is left.
        lengths: Of axes of matrices that have scales.

    Examples:
        Rows of which each is twice as large as the one before share the labels:

        >>> import numpy as np, deepcomp_jax as dc
        >>> row = np.random.default_rng(0).normal(size=256).astype("f4")
        >>> tree = {"kernel": np.outer(2.0 ** np.arange(4), row).astype("f4")}
        >>> method = dc.rate.multiples(0.5)
        >>> rules = [dc.Rule("kernel", share=dc.share.scaled(method, [4]))]
        >>> dc.compress(tree, rules).leaves[0].scales.first
        array([[-8, -4,  0,  4]], dtype=int8)
    """
    return Scaled(method, frozenset(lengths))


def shared(
    group: str,
    leaves: Mapping[str, Any],
    method: ShareMethod,
    importance: Mapping[str, np.ndarray] | None,
) -> tuple[np.ndarray, dict[str, Any], dict[str, AxisExponents]]:
    """The codebook of a group, and the labels and the exponents of its leaves.

    Args:
        group: Its name, for errors.
        leaves: By name, of one dtype, and finite.
        method: Of the group.
        importance: Of each leaf, or None.

    Returns:
        Exponents of those leaves that have scales.
    """
    exponents: dict[str, AxisExponents] = {}
    if isinstance(method, Scaled):
        for name, leaf in leaves.items():
            if (own := halfway(np.asarray(leaf), method.lengths)) is not None:
                exponents[name] = own
    while True:
        rest, counts = dict(leaves), dict(importance or {})
        for name, own in exponents.items():
            rest[name] = divided(np.asarray(leaves[name]), own)
            if importance is not None:  # errors are multiplied again by the scales
                first, last = (scales.TABLE[exps.view(np.uint8)] for exps in own)
                counts[name] = counts[name] * np.square(first * last)
        codebook = fit(group, rest, method, None if importance is None else counts)
        if all(fits(own, codebook) for own in exponents.values()):
            break
        exponents = {}  # the steps of tiny numbers of float16 may have none
    return codebook, {n: find(leaf, codebook) for n, leaf in rest.items()}, exponents


def fits(exponents: AxisExponents, codebook: np.ndarray) -> bool:
    """Whether a file can hold products of these entries and scales."""
    first, last = (np.asarray(own).ravel() for own in exponents)
    view = scales.View(1, first.size, last.size)
    entries = codebook[codebook != 0]  # a file has no entry for zero
    return scales.problem(scales.Exponents(view, first, last), entries) is None


def divided(leaf: np.ndarray, exponents: AxisExponents) -> np.ndarray:
    """What is left of a leaf without its scales, in its dtype."""
    first, last = (
        scales.TABLE[np.asarray(own).view(np.uint8)].ravel() for own in exponents
    )
    matrix = leaf.reshape(first.size, last.size)
    found = np.empty_like(matrix)
    for rows in _parts(*matrix.shape):
        part = matrix[rows].astype(np.float32)
        part /= first[rows, None]
        part /= last
        found[rows] = part
    return found.reshape(leaf.shape)


def halfway(leaf: np.ndarray, lengths: Collection[int]) -> AxisExponents | None:
    """The exponents of `scaled`; None for a leaf that has no scales."""
    if leaf.dtype not in scales.DTYPES or leaf.ndim < 2:
        return None
    # An odd distance, so that they are of all columns.
    some = leaf.ravel()[:: leaf.size // _SAMPLE | 1].astype(np.float32)
    if _is_on_grid(some):
        return None
    split, sides = _sides(leaf.shape, lengths)
    matrix = leaf.reshape(math.prod(leaf.shape[:split]), -1)
    seen = _seen(matrix, _limit(some))
    if not _can_be_divided(seen.usual, seen.greatest, leaf.dtype):
        return None
    found: list[NDArray[np.int8]] = []
    for side, (sums, counts) in enumerate(zip(seen.sums, seen.counts, strict=True)):
        relative = np.ones(sums.size)
        if sides[side] and matrix.shape[1 - side] >= _LEAST_VALUES:
            kept = counts > 0
            relative[kept] = sums[kept] / counts[kept] / seen.usual
        exponents = _EIGHTHS * _POWER * np.log2(relative)
        if np.square(exponents).mean() < _chance(matrix.shape[1 - side]):
            exponents[:] = 0
        exponents = _GRAIN * np.rint(exponents / _GRAIN)
        found.append(exponents.clip(-_FARTHEST, _FARTHEST).astype(np.int8))
    if not any(own.any() for own in found):
        return None
    before, after = leaf.shape[:split], leaf.shape[split:]
    return AxisExponents(
        found[0].reshape(*before, *[1] * len(after)),
        found[1].reshape(*[1] * len(before), *after),
    )


def _sides(
    shape: tuple[int, ...], lengths: Collection[int]
) -> tuple[int, tuple[bool, bool]]:
    """How many axes are those of rows, and whether rows and columns have scales."""
    if len(shape) == 2:
        return 1, (shape[0] in lengths, shape[1] in lengths)
    if shape[-1] >= shape[0]:
        return len(shape) - 1, (False, True)
    return 1, (True, False)


def _is_on_grid(some: np.ndarray) -> bool:
    """Whether few values occur often: another division would move them off."""
    return np.unique(some).size <= min(_MOST_ON_GRID, some.size // 8)


def _limit(some: np.ndarray) -> float:
    """What no weight counts for more than: the size of a row of the greatest scale.

    One that is far from all others is not to make its row and its column coarser.
    """
    sizes = np.abs(some[some != 0].astype(np.float64))
    if not sizes.size:
        return math.inf
    for _ in range(3):  # without what is beyond the limit it falls
        sizes = np.minimum(sizes, _FARTHEST_SIZE * sizes.mean())
    return _FARTHEST_SIZE * float(sizes.mean())


def _chance(values: int) -> float:
    """The mean square of exponents below which they may be chance.

    It is that of twice the exponents that rows of so many values have if they are equal
    but for chance.
    """
    return (2 * _EIGHTHS * _POWER * _BY_CHANCE / math.log(2)) ** 2 / values


def _can_be_divided(usual: float, greatest: float, dtype: np.dtype) -> bool:
    """Whether no weight becomes infinite, and no step of one subnormal."""
    least = _LEAST_OF_HALF if dtype == np.float16 else _LEAST_SIZE
    most = float(ml_dtypes.finfo(dtype).max) / 2 ** (2 * _FARTHEST // _EIGHTHS)
    return least <= usual <= most and greatest <= most


class _Seen(NamedTuple):
    """What the weights of a matrix are like.

    Attributes:
        sums: Of the magnitudes in each row, and in each column, float64.
        counts: How many of those are not zero, float64.
        greatest: Magnitude of all; NaN if there is NaN.
    """

    sums: tuple[NDArray[np.float64], NDArray[np.float64]]
    counts: tuple[NDArray[np.float64], NDArray[np.float64]]
    greatest: float

    @property
    def usual(self) -> float:
        """The mean magnitude of the weights that are not zero; 0 if there are none."""
        return float(self.sums[0].sum()) / max(float(self.counts[0].sum()), 1)


def _seen(matrix: np.ndarray, limit: float) -> _Seen:
    """Looks at a matrix, of which no weight counts for more than a limit."""
    height, width = matrix.shape
    sums = np.zeros(height), np.zeros(width)
    counts = np.zeros(height), np.zeros(width)
    greatest = np.float32(0)
    for rows in _parts(height, width):
        part = np.abs(matrix[rows].astype(np.float32))
        most = part.max()
        greatest = np.maximum(greatest, most)
        if not most <= limit:
            np.minimum(part, np.float32(limit), out=part)
        if np.count_nonzero(part) == part.size:
            counts[0][rows] = width
            counts[1][:] += len(part)
        else:
            counts[0][rows] = np.count_nonzero(part, 1)
            counts[1][:] += np.count_nonzero(part, 0)
        with np.errstate(over="ignore"):  # then there are no scales
            sums[0][rows] = part.sum(1)
            sums[1][:] += part.sum(0)
    return _Seen(sums, counts, float(greatest))


def _parts(height: int, width: int) -> Iterator[slice]:
    """Rows of a matrix that fit a cache together."""
    each = max(_BLOCK // max(width, 1), 1)
    for first in range(0, height, each):
        yield slice(first, min(first + each, height))
