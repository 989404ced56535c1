"""Sharing methods: what maps the weights of a group to its codebook."""

import operator
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from deepcomp_jax import kmeans as _kmeans
from deepcomp_jax._types import MAX_CODEBOOK
from deepcomp_jax.kmeans.float_histogram import histogram
from deepcomp_jax.rules import ShareMethod

_BLOCK = 1 << 16  # values that are worked on at a time

PRECISE = 2.0**-11  # relative error of half precision, but of very small numbers


def kmeans(
    k: int | None = None,
    *,
    bits: int | None = None,
    explained_variance: float | None = None,
) -> ShareMethod:
    """The best codebook there is, and beyond 2048 distinct values one as good to 0.1 %.

    Exactly one argument says how many centroids.

    Args:
        k: That many.
        bits: `2 ** bits`.
        explained_variance: The least number that explains this fraction of the
            variance of the group's non-zero weights, at most 1; at most 256.

    Raises:
        ValueError: Not exactly one of the three is given, or it is out of range: from 1
            centroid to 32768.
        TypeError: A number of centroids or of bits is not whole.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import share
        >>> share.kmeans(bits=1)(np.array([1.0, 2.0, 9.0]), None)
        array([1.5, 9. ])
    """
    given = [value for value in (k, bits, explained_variance) if value is not None]
    if len(given) != 1:
        raise ValueError("give exactly one of k, bits and explained_variance")
    if explained_variance is not None:
        if not 0 < explained_variance <= 1:
            raise ValueError(
                f"explained_variance is {explained_variance}; it must be above 0, and "
                "at most 1"
            )
        return lambda values, importance: _kmeans.by_explained_variance(
            values, explained_variance, importance=importance
        )
    if bits is not None:
        k = 2 ** _whole("bits", bits, 0, MAX_CODEBOOK.bit_length() - 1)
    count = _whole("k", k, 1, MAX_CODEBOOK)
    return lambda values, importance: _kmeans.optimal(
        values, count, importance=importance
    )


def _whole(name: str, value: Any, least: int, most: int) -> int:
    """A setting that is a whole number."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be a whole number") from None
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}; it must be from {least} to {most}")
    return number


def lloyd(
    k: int,
    *,
    init: Literal["linear", "density", "random"] = "linear",
    seed: int = 0,
    iterations: int = 300,
) -> ShareMethod:
    """Lloyd's algorithm, as in the paper: kept for the comparison of its section 3.2.

    Args:
        k: Number of centroids.
        init: First centroids: "linear", "density" or "random".
        seed: For "random".
        iterations: Most steps taken.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import share
        >>> share.lloyd(2, init="linear")(np.array([1.0, 2.0, 9.0]), None)
        array([1.5, 9. ])
    """
    k = _whole("k", k, 1, MAX_CODEBOOK)
    return lambda values, importance: _kmeans.lloyd(
        values,
        k,
        init=init,
        seed=seed,
        importance=importance,
        iterations=iterations,
    )


def nonparametric(cluster_cost: float = 0.02) -> ShareMethod:
    """Finds the number of centroids from the data: the slides' second method.

    Args:
        cluster_cost: What a further centroid must save in squared error, in variances
            of the group's weights.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import share
        >>> share.nonparametric(0.1)(np.array([1.0, 1.1, 5.0, 5.1, 9.0]), None)
        array([1.05, 5.05, 9.  ])
    """
    return lambda values, importance: _kmeans.nonparametric(
        values, cluster_cost=cluster_cost, importance=importance
    )


def uniform(max_error: float) -> ShareMethod:
    """Rounds each weight to a multiple of one step, which is as coarse as errors allow.

    The entropy coder makes up for entries that are used seldom, so that this is smaller
    at equal error than k-means, and an outlier costs bits but no precision. Weights
    below half a step become zero. (Gish and Pierce 1968: at high rates a uniform grid
    with an entropy coder is within a quarter of a bit of all that is possible.)

    Args:
        max_error: The most that a weight changes, as a fraction of the root mean square
            of the non-zero weights of its group: no more than that, but for the
            rounding of the dtype, is the relative error of the group in root mean
            square, and about 0.6 of it is typical. Above 0 and below 1; below
            1e-4 it may give more entries than a file can hold.

    Raises:
        ValueError: `max_error` is out of range.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import share
        >>> weights = np.array([0.2, -1.4, -0.2, 1.4])  # their mean square is 1
        >>> share.uniform(0.25)(weights, None).round(2)
        array([-1.5,  0. ,  1.5])
    """
    if not 0 < max_error < 1:
        raise ValueError(f"max_error is {max_error}; it must be above 0 and below 1")

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        del importance
        counts = None
        if values.dtype.itemsize <= 2 and values.size > _BLOCK:
            bins = histogram(values, None, bits=1)  # which tell all values apart
            values, counts = (bins.values, bins.weight) if bins else (values, None)
        greatest = max(np.abs(own).max() for own in _blocks(values))
        # Squares of small weights would vanish.
        squares = (np.square(own / greatest) for own in _blocks(values))
        if counts is None:
            mean = sum(own.sum() for own in squares) / values.size
        else:
            mean = sum(map(np.dot, squares, _blocks(counts))) / counts.sum()
        rms = greatest * np.sqrt(mean)
        step = short_step(2 * max_error * rms * (1 - PRECISE))  # which may round it up
        return step * _multiples(values, step, np.rint(greatest / step))

    return method


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Values in float64, a part after another."""
    for at in range(0, values.size, _BLOCK):
        yield values[at : at + _BLOCK].astype(np.float64)


def _multiples(values: np.ndarray, step: float, most: float) -> np.ndarray:
    """The whole numbers of steps that values are nearest to, ascending.

    Args:
        values: `[n]`, finite.
        step: Above 0.
        most: The greatest of them in magnitude.
    """
    whole = (np.rint(own / step).astype(np.int64) for own in _blocks(values))
    if most > max(values.size, _BLOCK):
        return np.unique(np.concatenate([np.unique(own) for own in whole]))
    seen = np.zeros(2 * int(most) + 1, bool)
    for own in whole:
        seen[own + int(most)] = True
    return np.flatnonzero(seen) - int(most)


def short_step(step: float) -> float:
    """A step that is near and takes few bytes in a file.

    Half precision is two bytes shorter than float32, where it is precise: not below
    6e-5 and above 65504. With more bits than float32 has, the entries of a grid could
    not be told from their step.
    """
    with np.errstate(over="ignore"):
        half, single = float(np.float16(step)), float(np.float32(step))
    if abs(half - step) <= PRECISE * step:
        return half
    return single if abs(single - step) <= PRECISE * step else step


def distinct(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """A method that loses no value: an entry for each that there is.

    For weights that are on a grid already. Zero is stored without its sign, so that
    -0.0, which equals it, becomes +0.0.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import share
        >>> share.distinct(np.array([0.5, -1.0, 0.5]), None)
        array([-1. ,  0.5])
    """
    del importance
    # NumPy sorts float16 wrongly where it uses AVX-512 and many are equal.
    return np.unique(values if values.dtype.itemsize > 2 else values.astype(np.float32))
