"""The best network in a number of bytes, and the smallest file within an error.

Both search lambda, the price of a bit, and look at the file that would be written.
Histograms say how many bits more or fewer another lambda takes, so that two or three
looks are enough.

With importance, labels are chosen by rate and distortion (`rate.quantize`). Without,
weights go to the nearest multiples of steps that are relative to their leaf, as in
`plan`: where nobody knows which weights matter, to make many a little smaller does
harm that no squared error shows.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import api
from deepcomp_jax._types import Compressed
from deepcomp_jax.budget.plans import stored_bytes
from deepcomp_jax.format import files
from deepcomp_jax.rate import grids, planning, quantization
from deepcomp_jax.rate.histograms import histogram
from deepcomp_jax.rate.planning import PlannedLeaf
from deepcomp_jax.rules import Rule
from deepcomp_jax.rules.weights import find_weights

_USED = 0.995  # fraction of the bytes at which a search for them ends
_CLOSE = 5e-4  # logarithm of the ratio of two steps at which any search ends
_LOOKS = 40  # a search ends after so many files in any case
_TRUSTED = 6  # looks at which histograms say where to look next


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
        files.write(path, self.data)
        return self.file_bytes


class _Search(NamedTuple):
    """What is the same for all points of a search.

    Attributes:
        problem: The network, as `rate.quantize` sees it.
        rules: For the codings that they ask for.
        leaves: Those that are quantized and not all zero.
        ends: Logarithms of relative steps: at the first each grid is as fine as it can
            be, at the second hardly a weight is worth its bits.
    """

    problem: quantization.Problem
    rules: Sequence[Rule]
    leaves: dict[str, PlannedLeaf]
    ends: tuple[float, float]

    def compressed(self, log_step: float) -> Compressed:
        """The network at one relative step."""
        rd_lambda = grids.lambda_for_step(math.exp(log_step), 1.0)
        return api.pack(quantization.solve(self.problem, rd_lambda), self.rules)

    def point(self, log_step: float) -> Point:
        """The file at one relative step."""
        return _point(log_step, self.compressed(log_step))

    def bits(self, log_step: float) -> float:
        """About what the leaves take at one relative step."""
        some = planning.sample(list(self.leaves.values()))
        return planning.total_bits(some, math.exp(log_step))

    def find(self, bits: float, start: float) -> float:
        """The relative step at which the leaves take about so many bits."""
        values = sum(leaf.histogram.size for leaf in self.leaves.values())
        return planning.descend(self.bits, bits, self.ends, start, max(values, 1))


def _point(log_step: float, compressed: Compressed) -> Point:
    data = api.dumps(compressed)
    rd_lambda = grids.lambda_for_step(math.exp(log_step), 1.0)
    return Point(rd_lambda, len(data), compressed, data)


def point(
    variables: Any,
    rules: Sequence[Rule] | None = None,
    *,
    rd_lambda: float,
    importance: Any = None,
) -> Point:
    """The network at one lambda; a sweep over several gives the curve.

    Args:
        variables, rules, importance: As for `rate.quantize`, but that without
            importance labels are the nearest.
        rd_lambda: What a bit costs, in the unit of importance times squared error; in
            that of squared errors relative to the leaf's mean magnitude if there is no
            importance. A step of d times that suits `rate.lambda_for_step(d, 1.0)`.

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
    step = grids.step_for_lambda(rd_lambda)
    return _search(variables, rules, importance).point(math.log(step))


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
        importance: As for `rate.quantize`; None gives each leaf the same error relative
            to itself, tables 2.5 times as much, and labels that are the nearest. With
            mean squared gradients small files are often better, but not always: measure
            both.

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
    (low, high), aim = search.ends, 8 * max_bytes * (1 + _USED) / 2
    more: Point | None = None
    best: Point | None = None
    at = search.find(aim - _stored_bits(search.problem), sum(search.ends) / 2)
    for look in range(_LOOKS):
        found = search.point(at)
        if found.file_bytes <= max_bytes:
            high, best = at, found
        elif at < high:
            low, more = at, found
        else:
            raise ValueError(
                f"no lambda gives a file of {max_bytes} bytes, the least is "
                f"{found.file_bytes}: quantize more leaves, prune, or allow more"
            )
        if best and (best.file_bytes >= _USED * max_bytes or high - low < _CLOSE):
            break
        wanted = search.bits(at) + aim - 8 * found.file_bytes
        at = search.find(wanted, at)
        if more and best and (look > _TRUSTED or not low < at < high):
            at = (low + high) / 2
        at = min(max(at, low), high)
    assert best is not None  # at the greatest step there is a file, or an error
    return best


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
    good, bad = search.ends

    def fits(found: Compressed) -> bool:
        return error(api.decompress(found)) <= max_error

    best = search.compressed(good)
    if not fits(best):
        raise ValueError(
            f"no lambda gives an error of {max_error}: it is that of the network, or "
            "allow more"
        )
    for _ in range(_LOOKS):
        if bad - good < 10 * _CLOSE:
            break
        middle = (good + bad) / 2
        found = search.compressed(middle)
        if fits(found):
            good, best = middle, found
        else:
            bad = middle
    return _point(good, best)


def _search(variables: Any, rules: Sequence[Rule] | None, importance: Any) -> _Search:
    problem = quantization.problem(variables, rules, importance)
    tables = find_weights(variables)
    leaves: dict[str, PlannedLeaf] = {}
    ends: list[tuple[float, float]] = []
    for name in problem.methods:
        own = np.asarray(problem.named[name])
        known = planning.planned(
            own.shape, own.dtype, tables.get(name, False), histogram(own)
        )
        if not known.unit:
            continue
        spread = 1.0  # of importance within the leaf
        if problem.importance is not None:
            costs = problem.importance[name]
            mean = float(costs.mean(dtype=np.float64))
            known, spread = known._replace(unit=mean**-0.5), float(costs.max()) / mean
        leaves[name] = known
        # An outlier may be all that there is of the magnitude.
        least = known.histogram.magnitude() / grids.MAX_ENTRIES / 64
        most = 4 * float(np.abs(known.histogram.values[[0, -1]]).max())
        unit = math.log(known.unit)
        ends.append((math.log(least) - unit, math.log(most * spread**0.5) - unit))
    if importance is None:
        problem = problem._replace(relative=leaves)
    low = min((own[0] for own in ends), default=0.0)
    high = max((own[1] for own in ends), default=low)
    return _Search(problem, rules or (), leaves, (low, high))


def _stored_bits(problem: quantization.Problem) -> float:
    """What the leaves take that are not quantized."""
    return 8 * sum(
        stored_bytes(name, np.asarray(leaf))
        for name, leaf in problem.named.items()
        if name not in problem.methods
    )
