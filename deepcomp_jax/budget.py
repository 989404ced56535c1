"""The best network in a number of bytes, and the smallest file within an error.

Both search the penalty of rate-distortion quantisation (`rate.quantise`), by bisection
of its logarithm, and look at the size of the file that would be written.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from deepcomp_jax import container, pipeline, rate, trees
from deepcomp_jax._types import Compressed

_ROUNDS = 12  # of bisection; the last one moves the penalty by 0.7 %
_DECADES = 12  # that the penalty is searched in


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
    patterns: Sequence[str] = (".",),
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
    patterns: Sequence[str] = (".",),
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
    return _search(
        variables,
        patterns,
        importance,
        lambda found: found.file_bytes <= max_bytes,
        small=True,
        goal=f"a file of {max_bytes} bytes",
    )


def within_error(
    variables: Any,
    error: Callable[[Any], float],
    max_error: float,
    patterns: Sequence[str] = (".",),
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
    return _search(
        variables,
        patterns,
        importance,
        lambda found: error(pipeline.decompress(found.compressed)) <= max_error,
        small=False,
        goal=f"an error of {max_error}",
    )


def _search(
    variables: Any,
    patterns: Sequence[str],
    importance: Any,
    fits: Callable[[Point], bool],
    *,
    small: bool,
    goal: str,
) -> Point:
    """Bisects the penalty; `small` says whether high ones fit, or low ones."""

    def look(exponent: float) -> Point:
        penalty = scale * 10.0**exponent
        return point(variables, patterns, penalty=penalty, importance=importance)

    scale = _scale(variables, patterns, importance)
    good, bad = (0.0, -float(_DECADES)) if small else (-float(_DECADES), 0.0)
    best = look(good)
    if not fits(best):
        raise ValueError(
            f"{goal} is out of reach: the nearest is {best.file_bytes} bytes; quantise "
            "more leaves, prune, or ask for less"
        )
    for _ in range(_ROUNDS):
        middle = (good + bad) / 2
        found = look(middle)
        if fits(found):
            good, best = middle, found
        else:
            bad = middle
    return best


def _scale(variables: Any, patterns: Sequence[str], importance: Any) -> float:
    """A penalty at which hardly a weight is worth its bits."""
    named = trees.named_leaves(variables)
    ones = jax.tree.map(np.ones_like, variables) if importance is None else importance
    counts = trees.named_leaves(ones)
    greatest = [
        float(np.max(np.asarray(counts[name], np.float32) * np.square(leaf), initial=0))
        for name, leaf in named.items()
        if any(trees.matches(pattern, name) for pattern in patterns)
    ]
    return max(greatest, default=0.0) or 1.0
