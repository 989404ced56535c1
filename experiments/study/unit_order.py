"""Leaves out units that do nothing, to train what is left of a network faster.

The narrow network computes what the wide one does. After the training its weights go
back to their places, and the units in between are zero. Since the order of units has no
effect either, they can be put into one that takes few bytes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepcomp_jax import trees
from experiments.study.roles import Axis, Units

Kept = Mapping[str, np.ndarray]  # the indices of the units of each kind to be kept


def busy(variables: Any, kinds: Mapping[str, Units]) -> Kept:
    """Finds the units that something reads, and whose own weights are not all zero.

    A unit that is made from idle ones alone, or read by idle ones alone, is idle too.

    Args:
        variables: The network; what has no effect is exactly zero.
        kinds: The units of each layer by name.
    """
    leaves = _arrays(variables)
    counts = {name: _count(leaves, units) for name, units in kinds.items()}
    kept = {name: np.arange(count) for name, count in counts.items()}
    while True:
        slim = narrow(variables, kinds, kept)
        leaves = _arrays(widen(slim, variables, kinds, kept))  # zero where idle
        fewer: dict[str, np.ndarray] = {}
        for name, units in kinds.items():
            made, read = (
                _any(leaves, axes, counts[name]) for axes in (units.made, units.read)
            )
            # A layer keeps one unit at least, or it would be no layer.
            fewer[name] = np.flatnonzero(made & read)
            fewer[name] = fewer[name] if fewer[name].size else kept[name][:1]
        if all(fewer[name].size == kept[name].size for name in kinds):
            return kept
        kept = fewer


def narrow(variables: Any, kinds: Mapping[str, Units], kept: Kept) -> Any:
    """Makes the variables of a network that has only the units to be kept."""
    leaves = _arrays(variables)
    for name, axis, places in _places(leaves, kinds, kept):
        leaves[name] = leaves[name].take(places, axis)
    return trees.rebuild(variables, leaves)


def widen(variables: Any, like: Any, kinds: Mapping[str, Units], kept: Kept) -> Any:
    """Undoes `narrow`, with zeros for what was left out.

    What units only carry along, such as variances, is put back as it was.

    Args:
        variables: The narrow network.
        like: The wide network that it was made from.
        kinds: The units of each layer by name.
        kept: Which of them the narrow network has.
    """
    leaves = _arrays(variables)
    wide = trees.named_leaves(like)
    carried = {leaf for units in kinds.values() for leaf, _ in units.carried}
    for name, axis, places in _places(wide, kinds, kept):
        shape = list(leaves[name].shape)
        shape[axis] = wide[name].shape[axis]
        whole = np.zeros(shape, leaves[name].dtype)
        if name in carried:
            whole[:] = wide[name]
        np.moveaxis(whole, axis, 0)[places] = np.moveaxis(leaves[name], axis, 0)
        leaves[name] = whole
    return trees.rebuild(like, leaves)


def sort(variables: Any, kinds: Mapping[str, Units]) -> Any:
    """Reorders units by how many weights make them, the fewest first.

    The network stays the same. Where neighbors are alike, a file need not say of each
    unit whether it is idle.
    """
    leaves = _arrays(variables)
    for name, units in kinds.items():
        weights = sum(_weights(leaves[leaf], axis) for leaf, axis in units.made)
        order = np.argsort(weights, kind="stable")
        for leaf, axis, places in _places(leaves, {name: units}, {name: order}):
            leaves[leaf] = leaves[leaf].take(places, axis)
    return trees.rebuild(variables, leaves)


def _arrays(variables: Any) -> dict[str, np.ndarray]:
    """The leaves of a network on the host, by name."""
    return {name: np.asarray(x) for name, x in trees.named_leaves(variables).items()}


def _weights(leaf: np.ndarray, axis: int) -> np.ndarray:
    """How many weights are not zero at each index of an axis."""
    return np.count_nonzero(np.moveaxis(leaf, axis, 0).reshape(leaf.shape[axis], -1), 1)


def _count(leaves: Mapping[str, np.ndarray], units: Units) -> int:
    """How many units there are of a kind."""
    first = units.made[0]
    return leaves[first.leaf].shape[first.axis]


def _places(
    leaves: Mapping[str, np.ndarray], kinds: Mapping[str, Units], kept: Kept
) -> list[tuple[str, int, np.ndarray]]:
    """Lists leaves and axes with units, and the indices of the units to be kept."""
    places: list[tuple[str, int, np.ndarray]] = []
    for name, units in kinds.items():
        count = _count(leaves, units)
        for leaf, axis in (*units.made, *units.read, *units.carried):
            blocks = np.arange(0, leaves[leaf].shape[axis], count)
            places.append((leaf, axis, (blocks[:, None] + kept[name]).ravel()))
    return places


def _any(
    leaves: Mapping[str, np.ndarray], axes: tuple[Axis, ...], count: int
) -> np.ndarray:
    """Tells of each of so many units whether it has a weight in one of the leaves."""
    has_weight = np.zeros(count, bool)
    for name, axis in axes:
        rows = np.moveaxis(leaves[name], axis, 0) != 0
        has_weight |= rows.reshape(len(rows) // count, count, -1).any(axis=(0, 2))
    return has_weight
