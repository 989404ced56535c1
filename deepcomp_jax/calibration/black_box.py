"""How much outputs change with each leaf, of a function that has no derivative."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SIZE = 1e-2  # of a change, relative to the root mean square of the leaf


def sensitivities(
    run: Callable[[list[Any], list[Any]], list[Any]],
    leaves: Sequence[Any],
    batch: Sequence[Any],
    floating: Sequence[int],
    key: jax.Array,
) -> dict[int, np.ndarray]:
    """Estimates the squared derivative of the outputs by each leaf.

    A random change d of a leaf with n values changes the outputs by about J d, whose
    expected square is |J|^2 |d|^2 / n. So one evaluation for each leaf gives an
    estimate of |J|^2, the sum over outputs of their squared derivatives, which is what
    a random projection of the outputs has on average too.

    Args:
        run: Takes leaves and arrays of a batch; returns the outputs.
        leaves: The leaves.
        batch: The arrays.
        floating: The positions of the leaves to change.
        key: Of the random changes.
    """
    before = _outputs(run(list(leaves), list(batch)))
    found = {}
    for position in floating:
        leaf = leaves[position]
        noise = jax.random.normal(jax.random.fold_in(key, position), leaf.shape)
        mean = jnp.mean(jnp.square(leaf.astype(jnp.float32)))
        rms = jnp.where(mean > 0, jnp.sqrt(mean), 1.0)
        changed = (leaf + _SIZE * rms * noise).astype(leaf.dtype)
        moved = [changed if i == position else old for i, old in enumerate(leaves)]
        after = _outputs(run(moved, list(batch)))
        with np.errstate(invalid="ignore"):  # infinity less itself, which is refused
            grown = sum(
                np.sum(np.abs(b - a) ** 2) for a, b in zip(before, after, strict=True)
            )
            change = np.asarray(changed, np.float64) - np.asarray(leaf, np.float64)
            length = np.sum(change**2)
        # A change that rounding has undone says nothing, and an empty leaf has none.
        found[position] = np.float64(grown / length * leaf.size if length else 0.0)
    return found


def _outputs(outputs: Sequence[Any]) -> list[np.ndarray]:
    inexact = (o for o in outputs if jnp.issubdtype(jnp.result_type(o), jnp.inexact))
    return [np.asarray(o, np.complex128) for o in inexact]
