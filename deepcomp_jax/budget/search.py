"""The best network in a number of bytes, and the smallest file within an error.

Both search the lambda of rate-distortion quantization (`rate.quantize`) and look at
the file that would be written. A bit more for each weight halves its grid's step and so
takes a quarter of lambda: that is how the search knows where to look next.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import api
from deepcomp_jax._types import Compressed
from deepcomp_jax.format import container
from deepcomp_jax.rate import grids, quantization
from deepcomp_jax.rules import Rule

_USED = 0.995  # fraction of the bytes at which a search for them ends
_CLOSE = 1e-3  # logarithm of the ratio of two lambdas at which any search ends
_LOOKS = 40  # a search ends after so many files in any case
_HALF_BIT = 2 * math.log(2)  # what a bit more a weight takes from the log of lambda


class Point(NamedTuple):
    """A point of the curve of size and quality.

    Attributes:
        rd_lambda: What a bit cost.
        file_bytes: Size of the file.
        compressed: The network that is in the file.
        data: The file.
    """

    rd_lambda: float
    file_bytes: int
    compressed: Compressed
    data: bytes

    def __repr__(self) -> str:
        lam = f"rd_lambda={self.rd_lambda:g}"
        return f"Point({lam}, file_bytes={self.file_bytes}, {self.compressed!r})"

    def save(self, path: str | PathLike[str]) -> int:
        """Writes the file, as `api.save` does, without making it anew."""
        container.write(path, self.data)
        return self.file_bytes


class _Search(NamedTuple):
    """What is the same for all points of a search.

    Attributes:
        problem: The network, as `rate.quantize` sees it.
        rules: For the codings that they ask for.
    """

    problem: quantization.Problem
    rules: Sequence[Rule]

    def point(self, log_lambda: float) -> Point:
        """The network at one lambda."""
        rd_lambda = math.exp(log_lambda)
        compressed = api.pack(quantization.solve(self.problem, rd_lambda), self.rules)
        data = container.dumps(compressed)
        return Point(rd_lambda, len(data), compressed, data)


class _Range(NamedTuple):
    """Lambdas that make sense, as logarithms, and what is known of the weights.

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
    rules: Sequence[Rule] | None = None,
    *,
    rd_lambda: float,
    importance: Any = None,
) -> Point:
    """The network at one lambda; a sweep over several gives the curve.

    Args:
        variables, rules, rd_lambda, importance: As for `rate.quantize`.

    Examples:
        >>> import jax
        >>> from deepcomp_jax import budget
        >>> params = {"kernel": jax.random.normal(jax.random.key(0), (64, 64))}
        >>> sizes = [budget.point(params, rd_lambda=x).file_bytes for x in (0.01, 0.1)]
        >>> sizes[0] > sizes[1]
        True
    """
    if not 0 < rd_lambda < math.inf:
        raise ValueError(f"rd_lambda must be positive and finite, got {rd_lambda}")
    return _search(variables, rules, importance).point(math.log(rd_lambda))


def within_bytes(
    variables: Any,
    max_bytes: int,
    rules: Sequence[Rule] | None = None,
    *,
    importance: Any = None,
) -> Point:
    """The network of least distortion whose file has at most so many bytes.

    The search ends when 99.5 % of the bytes are used or no lambda comes nearer: a file
    of a hundred bytes jumps by more, and no grid has more than 1000 entries.

    Args:
        variables: Any pytree of arrays.
        max_bytes: Of the file, with everything in it.
        rules: Which leaves are quantized, as for `rate.quantize`; by default the
            weights of products and tables.
        importance: As for `rate.quantize`. With mean squared gradients small files are
            often better, but not always: measure both.

    Raises:
        ValueError: No lambda makes a file so small.

    Examples:
        >>> import jax
        >>> from deepcomp_jax import budget
        >>> params = {"kernel": jax.random.normal(jax.random.key(0), (100, 100))}
        >>> found = budget.within_bytes(params, 3000)
        >>> 2950 < found.file_bytes <= 3000
        True
    """
    if not isinstance(max_bytes, numbers.Integral):
        raise TypeError(f"max_bytes is a whole number of bytes, got {max_bytes!r}")
    search = _search(variables, rules, importance)
    span = _span(search)
    low, high = span.least, span.greatest
    best = search.point(high)
    if best.file_bytes > max_bytes:
        raise ValueError(
            f"no lambda gives a file of {max_bytes} bytes, the least is "
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
    logs = [math.log(p.rd_lambda) for p in (large, small)]
    sizes = [math.log(p.file_bytes) for p in (large, small)]
    part = (sizes[0] - math.log(aim)) / (sizes[0] - sizes[1])
    # Not so near to an end that the other one stays where it is.
    return logs[0] + min(max(part, 0.1), 0.9) * (logs[1] - logs[0])


def within_error(
    variables: Any,
    error: Callable[[Any], float],
    max_error: float,
    rules: Sequence[Rule] | None = None,
    *,
    importance: Any = None,
) -> Point:
    """The smallest file whose network has at most an error.

    Args:
        variables: Any pytree of arrays.
        error: Maps the variables decoded from a file to a number, such as the error on
            validation data. Called about twenty times.
        max_error: The most that `error` may return.
        rules: Which leaves are quantized, as for `rate.quantize`; by default the
            weights of products and tables.
        importance: As for `rate.quantize`.

    Raises:
        ValueError: No lambda gives so small an error.

    Examples:
        >>> import jax, jax.numpy as jnp, deepcomp_jax as dc
        >>> from deepcomp_jax import budget
        >>> kernel = jax.random.normal(jax.random.key(0), (100, 100))
        >>> error = lambda decoded: float(jnp.square(decoded["kernel"] - kernel).mean())
        >>> found = budget.within_error({"kernel": kernel}, error, 0.01)
        >>> found.file_bytes < 6000, error(dc.decompress(found.compressed)) <= 0.01
        (True, True)
    """
    search = _search(variables, rules, importance)
    span = _span(search)
    good, bad = span.least, span.greatest

    def fits(at: Point) -> bool:
        return error(api.decompress(at.compressed)) <= max_error

    best = search.point(good)
    if not fits(best):
        raise ValueError(
            f"no lambda gives an error of {max_error}: it is that of the network, or "
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


def _search(variables: Any, rules: Sequence[Rule] | None, importance: Any) -> _Search:
    return _Search(quantization.problem(variables, rules, importance), rules or ())


def _span(search: _Search) -> _Range:
    """The lambdas from which to choose: those of every leaf, whatever its scale."""
    least, greatest, steps, counts = [], [], [], []
    problem = search.problem
    for name in problem.methods:
        weights = np.asarray(problem.named[name]).astype(np.float64)
        kept = weights != 0
        if not kept.any():
            continue
        costs = np.ones(1)
        if problem.importance is not None:
            costs = problem.importance[name].astype(np.float64)
        mean = float(costs.mean())
        typical = float(np.median(np.abs(weights[kept])))
        finest = grids.lambda_for_step(typical / grids.MAX_ENTRIES, mean)
        least.append(math.log(finest))
        greatest.append(math.log(float((weights**2 * costs).max()) or finest))
        steps.append(math.log(grids.lambda_for_step(4 * typical, mean)))
        counts.append(int(np.count_nonzero(kept)))
    if not counts:
        return _Range(0.0, 0.0, 0.0, 0)
    one_step = float(np.average(steps, weights=counts))
    top = max(max(greatest), min(least) + 1)
    return _Range(min(least), top, one_step, sum(counts))
