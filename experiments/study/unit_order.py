"""Puts units into an order that takes few bytes, since it has no other effect."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepcomp_jax import trees
from experiments.study.roles import Units


def sort(variables: Any, kinds: Mapping[str, Units]) -> Any:
    """Reorders units by how many weights make them, the fewest first.

    The network stays the same. Where neighbors are alike, a file need not say of each
    unit whether it is idle.
    """
    leaves = _arrays(variables)
    for units in kinds.values():
        weights = sum(_weights(leaves[leaf], axis) for leaf, axis in units.made)
        order = np.argsort(weights, kind="stable")
        for leaf, axis in (*units.made, *units.read, *units.carried):
            blocks = np.arange(0, leaves[leaf].shape[axis], order.size)
            places = (blocks[:, None] + order).ravel()
            leaves[leaf] = leaves[leaf].take(places, axis)
    return trees.rebuild(variables, leaves)


def _arrays(variables: Any) -> dict[str, np.ndarray]:
    """The leaves of a network on the host, by name."""
    return {name: np.asarray(x) for name, x in trees.named_leaves(variables).items()}


def _weights(leaf: np.ndarray, axis: int) -> np.ndarray:
    """How many weights are not zero at each index of an axis."""
    return np.count_nonzero(np.moveaxis(leaf, axis, 0).reshape(leaf.shape[axis], -1), 1)
