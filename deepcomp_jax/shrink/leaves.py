"""Leaves that lose the units of some axes, and get them back."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

Indices: TypeAlias = tuple[
    np.ndarray | None, ...
]  # what is left of each axis; None: all


def cut(leaf: Any, kept: Indices | None) -> Any:
    """The part of a leaf that is left."""
    return leaf if kept is None else leaf[_grid(leaf.shape, kept)]


def put(whole: Any, kept: Indices, part: Any) -> Any:
    """A leaf with a part of it replaced, on the device if the part is there."""
    grid = _grid(whole.shape, kept)
    if isinstance(part, jax.Array):
        return jax.numpy.asarray(whole, part.dtype).at[grid].set(part)
    found = np.array(whole)
    found[grid] = part
    return found


def zeroed(leaf: Any, kept: Indices) -> Any:
    """A leaf with zeros in all that is cut."""
    zeros = leaf * 0
    return put(zeros, kept, cut(leaf, kept))


def added(leaf: Any, delta: np.ndarray) -> Any:
    """A leaf plus something in float64, rounded once."""
    total = np.asarray(np.asarray(leaf, np.float64) + delta).astype(leaf.dtype)
    return jax.numpy.asarray(total) if isinstance(leaf, jax.Array) else total


def _grid(shape: Sequence[int], kept: Indices) -> tuple[np.ndarray, ...]:
    places = [
        np.arange(size) if own is None else own
        for size, own in zip(shape, kept, strict=True)
    ]
    return np.ix_(*places)
