"""Leaving out units that do nothing, to train what is left of a network faster.

The narrow network computes what the wide one does. When it is trained, its weights go
back to their places, and the units in between are zero. The order of units means
nothing either, so that it can be one that takes few bytes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepcomp_jax import trees
from experiments.study.roles import Axis, Units

Kept = Mapping[str, np.ndarray]  # of each kind of units, the indices that are kept


def busy(variables: Any, kinds: Mapping[str, Units]) -> Kept:
    """Units that something reads, and whose own weights are not all zero.

    Units that are made from idle ones alone, or read by idle ones alone, are idle too.

    Args:
        variables: Of the network; what does not matter is exactly zero.
        kinds: Units by name.
    """
    leaves = {k: np.asarray(v) for k, v in trees.named_leaves(variables).items()}
    kept = {name: np.arange(_count(leaves, units)) for name, units in kinds.items()}
    while True:
        now = _zeroed(leaves, kinds, kept)
        found = {
            name: np.flatnonzero(
                _any(now, units.made, _count(leaves, units))
                & _any(now, units.read, _count(leaves, units))
            )
            for name, units in kinds.items()
        }
        # A layer without units would be no layer.
        found = {n: f if f.size else kept[n][:1] for n, f in found.items()}
        if all(found[name].size == kept[name].size for name in kinds):
            return kept
        kept = found


def narrow(variables: Any, kinds: Mapping[str, Units], kept: Kept) -> Any:
    """The variables of the units that are kept."""
    leaves = {k: np.asarray(v) for k, v in trees.named_leaves(variables).items()}
    for name, axis, places in _places(leaves, kinds, kept):
        leaves[name] = leaves[name].take(places, axis)
    return trees.rebuild(variables, leaves)


def widen(variables: Any, like: Any, kinds: Mapping[str, Units], kept: Kept) -> Any:
    """The inverse of `narrow`, with zeros for what was left out.

    What units carry along is as it was.

    Args:
        variables: Of the narrow network.
        like: Those of the wide one.
        kinds: Units by name.
        kept: Which of them the narrow network has.
    """
    leaves = {k: np.asarray(v) for k, v in trees.named_leaves(variables).items()}
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
    """The same network with units in ascending order of how many weights make them.

    Where neighbors are alike, a file need not say of each unit whether it is idle.
    """
    leaves = {k: np.asarray(v) for k, v in trees.named_leaves(variables).items()}
    for name, units in kinds.items():
        made = sum(_kept(leaves[leaf], axis) for leaf, axis in units.made)
        order = np.argsort(made, kind="stable")
        for leaf, axis, places in _places(leaves, {name: units}, {name: order}):
            leaves[leaf] = leaves[leaf].take(places, axis)
    return trees.rebuild(variables, leaves)


def _kept(leaf: np.ndarray, axis: int) -> np.ndarray:
    """Weights that are not zero at each index of an axis."""
    return np.count_nonzero(np.moveaxis(leaf, axis, 0).reshape(leaf.shape[axis], -1), 1)


def _count(leaves: Mapping[str, Any], units: Units) -> int:
    first = units.made[0]
    return leaves[first.leaf].shape[first.axis]


def _places(
    leaves: Mapping[str, Any], kinds: Mapping[str, Units], kept: Kept
) -> list[tuple[str, int, np.ndarray]]:
    """Leaf, axis, and the indices along it that belong to units that are kept."""
    found: list[tuple[str, int, np.ndarray]] = []
    for name, units in kinds.items():
        count = _count(leaves, units)
        for leaf, axis in (*units.made, *units.read, *units.carried):
            blocks = np.arange(0, leaves[leaf].shape[axis], count)
            found.append((leaf, axis, (blocks[:, None] + kept[name]).ravel()))
    return found


def _zeroed(
    leaves: Mapping[str, np.ndarray], kinds: Mapping[str, Units], kept: Kept
) -> dict[str, np.ndarray]:
    """The leaves with zeros for all other units."""
    now = dict(leaves)
    for name, axis, places in _places(leaves, kinds, kept):
        whole = np.zeros_like(now[name])
        np.moveaxis(whole, axis, 0)[places] = np.moveaxis(now[name], axis, 0)[places]
        now[name] = whole
    return now


def _any(
    leaves: Mapping[str, np.ndarray], axes: tuple[Axis, ...], count: int
) -> np.ndarray:
    """Which of so many units have a weight in one of the leaves."""
    found = np.zeros(count, bool)
    for name, axis in axes:
        rows = np.moveaxis(leaves[name], axis, 0) != 0
        found |= rows.reshape(-1, count, *rows.shape[1:]).any(
            axis=(0, *range(2, rows.ndim + 1))
        )
    return found
