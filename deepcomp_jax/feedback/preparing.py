"""A network and its statistics, made ready for any size."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import trees
from deepcomp_jax._types import Progress
from deepcomp_jax.calibration import Calibration, Use, floored
from deepcomp_jax.feedback import threads
from deepcomp_jax.feedback.matrices import Matrices, alone, fits, matrices
from deepcomp_jax.rules.weights import find_weights

LEAST_SIZE = 17  # smaller leaves keep all their bits: they would save nothing
_MANY = 512  # examples from which moments are trusted more
_DAMPING = 0.25  # of moments of inputs
_DAMPING_OF_FEW = 0.4
_THREADS = 4  # at most: each takes some times the memory of moments
_NOTHING = 1e-6  # of the importance of a typical leaf: it was not reached
_UNSEEN = 0.05  # of that importance is what such a leaf gets


class Prepared(NamedTuple):
    """A network and its statistics, as all sizes need them.

    Attributes:
        leaves: Those that are quantized, by name; of equal ones the first.
        copies: Names of the others, each with that of the first.
        matrices: Of those that are multiplied with something, or looked up.
    """

    leaves: Mapping[str, np.ndarray]
    copies: Mapping[str, str]
    matrices: Mapping[str, Matrices]


def prepare(
    variables: Any,
    calibration: Calibration,
    chosen: Iterable[str],
    *,
    damping: float | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Factors the statistics of a network.

    Time grows with the third power of the width of a layer, memory is that of the
    statistics once more.

    Args:
        variables: The pytree that was calibrated.
        calibration: Its statistics.
        chosen: Names of the leaves that are to be quantized, float16, bfloat16 or
            float32.
        damping: What is added to all second moments of inputs, in units of their mean;
            those of derivatives get half of it. Strong damping keeps quality on data
            that are unlike the batches. By default 0.25, or 0.4 with fewer than 512
            examples.
        progress: Is told of each leaf that is ready; nothing is written yet.

    Raises:
        ValueError: The statistics are of other leaves, or a leaf holds NaN or infinity.
    """
    named = trees.named_leaves(variables)
    if damping is None:
        damping = _DAMPING if calibration.examples >= _MANY else _DAMPING_OF_FEW
    importance = floored(calibration, variables)
    weights = find_weights(variables)
    every = {name: _checked(name, named[name]) for name in chosen}
    copies = _copies(every)
    leaves = {name: leaf for name, leaf in every.items() if name not in copies}

    def factored(name: str) -> Matrices | None:
        tied = [name, *(copy for copy, first in copies.items() if first == name)]
        uses = [use for own in tied for use in calibration.leaves.get(own, ())]
        cost = _added([importance[own] for own in tied])
        return _factored(name, leaves[name], uses, cost, damping, name in weights)

    every = threads.each(factored, leaves, progress, _THREADS)
    found = {name: own for name, own in every.items() if own is not None}
    return Prepared(leaves, copies, _floored(found, leaves))


def _factored(
    name: str,
    leaf: np.ndarray,
    uses: Sequence[Use],
    cost: np.ndarray,
    damping: float,
    is_weight: bool,
) -> Matrices | None:
    if leaf.size < LEAST_SIZE:
        return None
    if uses:
        _check_fit(name, leaf, uses)
        return matrices(leaf.shape, uses, cost, damping)
    return alone(leaf.shape, cost) if is_weight else None


def _copies(leaves: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Names of leaves that equal an earlier one, as tied weights are, and its name."""
    first: dict[object, str] = {}
    copies: dict[str, str] = {}
    for name, leaf in leaves.items():
        other = first.setdefault(trees.contents(leaf), name)
        if other != name and np.array_equal(leaf, leaves[other]):
            copies[name] = other
    return copies


def _added(importance: Sequence[np.ndarray]) -> np.ndarray:
    """What errors cost in a leaf that has several names."""
    if len({own.shape for own in importance}) == 1:
        return np.sum(importance, axis=0)
    return np.asarray(sum(own.mean() for own in importance))


def _check_fit(name: str, leaf: np.ndarray, uses: Sequence[Use]) -> None:
    if not all(fits(use, leaf.shape) for use in uses):
        raise ValueError(
            f"the calibration is of a leaf {name!r} of another shape than "
            f"{leaf.shape}: calibrate this network"
        )


def _floored(
    found: Mapping[str, Matrices], leaves: Mapping[str, np.ndarray]
) -> dict[str, Matrices]:
    """Gives importance to what no example reached.

    Such leaves get an error relative to their values that is a few times that of a
    typical one: an output that the function leaves out may be wanted elsewhere.
    """
    squares = {
        name: float(np.square(leaves[name], dtype=np.float32).mean()) for name in found
    }
    costs = {
        name: float(x.importance.mean()) * squares[name] for name, x in found.items()
    }
    typical = float(np.median([cost for cost in costs.values() if cost > 0] or [1.0]))
    return {
        name: own._replace(
            importance=np.full_like(own.importance, _UNSEEN * typical / squares[name])
        )
        if squares[name] > 0 and costs[name] < _NOTHING * typical
        else own
        for name, own in found.items()
    }


def _checked(name: str, leaf: Any) -> np.ndarray:
    values = np.asarray(leaf)
    if not np.isfinite(values.astype(np.float32)).all():
        raise ValueError(
            f"leaf {name!r} holds NaN or infinity: repair it, or leave it out by rules"
        )
    return values
