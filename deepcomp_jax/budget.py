"""The best network in a number of bytes, and the smallest file within an error.

Both search the penalty of rate-distortion quantisation (`rate.quantise`), by bisection
of its logarithm, and look at the size of the file that would be written.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import container, pipeline, rate, share, trees
from deepcomp_jax._types import Compressed

_ROUNDS = 12  # of bisection; the last one moves the penalty by 0.7 %
_RANGE = 1e12  # greatest over least penalty


class Point(NamedTuple):
    """A point of the curve of size and quality.

    Attributes:
        penalty: What a bit cost.
        file_bytes: Size of the file.
        compressed: The network, ready to be saved.
    """

    penalty: float
    file_bytes: int
    compressed: Compressed


def point(
    variables: Any,
    patterns: str | Sequence[str] = rate.TRAINED,
    *,
    penalty: float,
    importance: Any = None,
) -> Point:
    """The network at one penalty; a sweep over several gives the curve.

    Args:
        variables, patterns, penalty, importance: As for `rate.quantise`.
    """
    shared = rate.quantise(variables, patterns, penalty=penalty, importance=importance)
    compressed = pipeline.pack(shared)
    return Point(penalty, len(container.dumps(compressed)), compressed)


def within_bytes(
    variables: Any,
    max_bytes: int,
    patterns: str | Sequence[str] = rate.TRAINED,
    *,
    importance: Any = None,
) -> Point:
    """The network of least distortion whose file has at most so many bytes.

    Args:
        variables: Any pytree of arrays.
        max_bytes: Of the file, with everything in it.
        patterns: Which leaves are quantised, as for `rate.quantise`.
        importance: As for `rate.optimise`; mean squared gradients are worth their cost.

    Raises:
        ValueError: No penalty makes a file so small.
    """
    look = partial(point, variables, patterns, importance=importance)
    most = _greatest(variables, patterns, importance)
    best = _search(look, (most, most / _RANGE), lambda at: at.file_bytes <= max_bytes)
    if best is None:
        raise ValueError(
            f"no penalty gives a file of {max_bytes} bytes: quantise more leaves, "
            "prune, or allow more"
        )
    return best


def within_error(
    variables: Any,
    error: Callable[[Any], float],
    max_error: float,
    patterns: str | Sequence[str] = rate.TRAINED,
    *,
    importance: Any = None,
) -> Point:
    """The smallest file whose network has at most an error.

    Args:
        variables: Any pytree of arrays.
        error: Maps the variables decoded from a file to a number, such as the error on
            validation data. Called a dozen times.
        max_error: The most that `error` may return.
        patterns: Which leaves are quantised, as for `rate.quantise`.
        importance: As for `rate.optimise`.

    Raises:
        ValueError: No penalty gives so small an error.
    """
    look = partial(point, variables, patterns, importance=importance)
    most = _greatest(variables, patterns, importance)
    best = _search(
        look,
        (most / _RANGE, most),
        lambda at: error(pipeline.decompress(at.compressed)) <= max_error,
    )
    if best is None:
        raise ValueError(
            f"no penalty gives an error of {max_error}: it is that of the network, or "
            "allow more"
        )
    return best


def _search(
    look: Callable[..., Point],
    between: tuple[float, float],
    fits: Callable[[Point], bool],
) -> Point | None:
    """Bisects the logarithm of the penalty between one that must fit and another.

    Returns:
        The last point that fits, None if not even the first does.
    """
    good, bad = between
    best = look(penalty=good)
    if not fits(best):
        return None
    for _ in range(_ROUNDS):
        middle = math.sqrt(good * bad)
        found = look(penalty=middle)
        if fits(found):
            good, best = middle, found
        else:
            bad = middle
    return best


def _greatest(variables: Any, patterns: str | Sequence[str], importance: Any) -> float:
    """A penalty at which hardly a weight is worth its bits."""
    leaves = rate.chosen(variables, patterns)
    counts = share.weighted(leaves, importance)
    costs = []
    for name, leaf in leaves.items():
        squares = np.square(np.asarray(trees.check_weights(name, leaf), np.float64))
        costs.append(
            float(np.max(squares * (counts[name] if counts else 1), initial=0))
        )
    return max(costs, default=0.0) or 1.0
