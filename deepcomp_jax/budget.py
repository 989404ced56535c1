"""The best network in a number of bytes, and the smallest file within an error.

Both search the penalty of rate-distortion quantization (`rate.quantise`) and look at
the file that would be written. A bit more for each weight halves its grid's step and so
takes a quarter of the penalty: that is how the search knows where to look next.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import api, rate, trees
from deepcomp_jax._types import Compressed
from deepcomp_jax.format import container

_USED = 0.995  # fraction of the bytes at which a search for them ends
_CLOSE = 1e-3  # logarithm of the penalties' ratio at which any search ends
_LOOKS = 40  # a search ends after so many files in any case
_HALF_BIT = 2 * math.log(2)  # what a bit more a weight takes from the log of a penalty


class Point(NamedTuple):
    """A point of the curve of size and quality.

    Attributes:
        penalty: What a bit cost.
        file_bytes: Size of the file.
        compressed: The network that is in the file.
        data: The file.
    """

    penalty: float
    file_bytes: int
    compressed: Compressed
    data: bytes

    def save(self, path: str | PathLike[str]) -> int:
        """Writes the file, as `api.save` does, without making it anew."""
        container.write(path, self.data)
        return self.file_bytes


class _Search(NamedTuple):
    """What is the same for all points of a search.

    Attributes:
        variables: The network.
        leaves: Those that are quantized, by name.
        importance: Of each of them, or None.
    """

    variables: Any
    leaves: Mapping[str, Any]
    importance: Mapping[str, np.ndarray] | None

    def point(self, log_penalty: float) -> Point:
        """The network at one penalty."""
        penalty = math.exp(log_penalty)
        shared = rate.quantise_leaves(
            self.variables, self.leaves, self.importance, penalty
        )
        compressed = api.pack(shared)
        data = container.dumps(compressed)
        return Point(penalty, len(data), compressed, data)


class _Range(NamedTuple):
    """Penalties that make sense, as logarithms, and what is known of the weights.

    Attributes:
        least: Every grid is as fine as it can be.
        greatest: Hardly a weight is worth its bits.
        one_step: At which the grids' steps are like the weights of most leaves.
        weights: How many are not zero.
    """

    least: float
    greatest: float
    one_step: float
    weights: int


def point(
    variables: Any,
    patterns: str | Sequence[str] | None = None,
    *,
    penalty: float,
    importance: Any = None,
) -> Point:
    """The network at one penalty; a sweep over several gives the curve.

    Args:
        variables, patterns, penalty, importance: As for `rate.quantise`.
    """
    if not 0 < penalty < math.inf:
        raise ValueError(f"penalty must be positive and finite, got {penalty}")
    return _search(variables, patterns, importance).point(math.log(penalty))


def within_bytes(
    variables: Any,
    max_bytes: int,
    patterns: str | Sequence[str] | None = None,
    *,
    importance: Any = None,
) -> Point:
    """The network of least distortion whose file has at most so many bytes.

    The search ends when 99.5 % of the bytes are used or no penalty comes nearer: a file
    of a hundred bytes jumps by more, and no grid has more than 1000 entries.

    Args:
        variables: Any pytree of arrays.
        max_bytes: Of the file, with everything in it.
        patterns: Which leaves are quantized, as for `rate.quantise`; by default the
            weights of products and tables.
        importance: As for `rate.optimise`; mean squared gradients are worth their cost.

    Raises:
        ValueError: No penalty makes a file so small.
    """
    search = _search(variables, patterns, importance)
    span = _span(search)
    low, high = span.least, span.greatest
    best = search.point(high)
    if best.file_bytes > max_bytes:
        raise ValueError(
            f"no penalty gives a file of {max_bytes} bytes, the least is "
            f"{best.file_bytes}: quantize more leaves, prune, or allow more"
        )
    too_large: Point | None = None
    bits = 8 * max_bytes / max(span.weights, 1)
    at = span.one_step - _HALF_BIT * bits
    for _ in range(_LOOKS):
        if best.file_bytes >= _USED * max_bytes or high - low < _CLOSE:
            break
        at = min(max(at, low if too_large is None else low + 0.1 * (high - low)), high)
        at = at if at < high else (low + high) / 2
        found = search.point(at)
        if found.file_bytes > max_bytes:
            low, too_large = at, found
        else:
            high, best = at, found
        at = _next(found, max_bytes, at, span.weights, (too_large, best))
    return best


def _next(
    found: Point,
    max_bytes: int,
    at: float,
    weights: int,
    between: tuple[Point | None, Point],
) -> float:
    """Where a file of nearly so many bytes should be."""
    aim = max_bytes * (1 + _USED) / 2
    large, small = between
    if large is None:  # only sizes on one side are known: a bit a weight, a quarter
        return at + _HALF_BIT * 8 * (found.file_bytes - aim) / max(weights, 1)
    logs = [math.log(p.penalty) for p in (large, small)]
    sizes = [math.log(p.file_bytes) for p in (large, small)]
    part = (sizes[0] - math.log(aim)) / (sizes[0] - sizes[1])
    # Not so near to an end that the other one stays where it is.
    return logs[0] + min(max(part, 0.1), 0.9) * (logs[1] - logs[0])


def within_error(
    variables: Any,
    error: Callable[[Any], float],
    max_error: float,
    patterns: str | Sequence[str] | None = None,
    *,
    importance: Any = None,
) -> Point:
    """The smallest file whose network has at most an error.

    Args:
        variables: Any pytree of arrays.
        error: Maps the variables decoded from a file to a number, such as the error on
            validation data. Called about twenty times.
        max_error: The most that `error` may return.
        patterns: Which leaves are quantized, as for `rate.quantise`; by default the
            weights of products and tables.
        importance: As for `rate.optimise`.

    Raises:
        ValueError: No penalty gives so small an error.
    """
    search = _search(variables, patterns, importance)
    span = _span(search)
    good, bad = span.least, span.greatest

    def fits(at: Point) -> bool:
        return error(api.decompress(at.compressed)) <= max_error

    best = search.point(good)
    if not fits(best):
        raise ValueError(
            f"no penalty gives an error of {max_error}: it is that of the network, or "
            "allow more"
        )
    for _ in range(_LOOKS):
        if bad - good < 10 * _CLOSE:
            break
        middle = (good + bad) / 2
        found = search.point(middle)
        if fits(found):
            good, best = middle, found
        else:
            bad = middle
    return best


def _search(
    variables: Any, patterns: str | Sequence[str] | None, importance: Any
) -> _Search:
    leaves = rate.chosen(variables, patterns)
    return _Search(variables, leaves, rate.checked(leaves, importance))


def _span(search: _Search) -> _Range:
    """The penalties from which to choose: those of every leaf, whatever its scale."""
    least, greatest, steps, counts = [], [], [], []
    for name, leaf in search.leaves.items():
        weights = np.asarray(trees.check_weights(name, leaf)).astype(np.float64)
        kept = weights != 0
        if not kept.any():
            continue
        costs = np.ones(1)
        if search.importance is not None:
            costs = search.importance[name].astype(np.float64)
        mean = float(costs.mean())
        typical = float(np.median(np.abs(weights[kept])))
        finest = rate.penalty_of(typical / rate.MAX_ENTRIES, mean)
        least.append(math.log(finest))
        greatest.append(math.log(float((weights**2 * costs).max()) or finest))
        steps.append(math.log(rate.penalty_of(4 * typical, mean)))
        counts.append(int(np.count_nonzero(kept)))
    if not counts:
        return _Range(0.0, 0.0, 0.0, 0)
    one_step = float(np.average(steps, weights=counts))
    top = max(max(greatest), min(least) + 1)
    return _Range(min(least), top, one_step, sum(counts))
