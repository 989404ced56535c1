"""Random inputs for a network of which only an example is there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax.calibration import gradients, networks


def random_like(
    fn: Callable[[Any, Any], Any], params: Any, batch: Any, *, seed: int = 0
) -> Any:
    """Draws a batch of the types and shapes of another, with none of its content.

    Random inputs beside real ones show a network what the few real ones happen not to
    hold, and instead of real ones are better than nothing.

    Args:
        fn: `fn(params, batch)`; is traced, and not computed.
        params: Any pytree of arrays.
        batch: An example.
        seed: Of the values drawn.

    Returns:
        A pytree as `batch`, of NumPy arrays. Integers that look up rows of a table are
        uniform over its rows, others over their range in the example. Floating numbers
        are normal with the mean and deviation of the example. Booleans are kept.

    Raises:
        ValueError: Something in a pytree is no array.

    Examples:
        >>> import jax.numpy as jnp, numpy as np
        >>> import deepcomp_jax as dc
        >>> fn = lambda params, tokens: params["embedding"][tokens]
        >>> params = {"embedding": jnp.ones((1000, 4))}
        >>> tokens = dc.calibration.random_like(fn, params, np.zeros((64, 32), int))
        >>> tokens.shape, bool(tokens.max() > 950)
        ((64, 32), True)
    """
    net = networks.network(fn, params)
    arrays, structure = networks.arrays_of(batch)
    tables = gradients.tables(net.flat(structure), net.leaves, arrays)
    rng = np.random.default_rng(seed)
    drawn = [_drawn(array, tables.get(i), rng) for i, array in enumerate(arrays)]
    return jax.tree.unflatten(structure, drawn)


def _drawn(array: jax.Array, rows: int | None, rng: np.random.Generator) -> Any:
    if array.size and jnp.issubdtype(array.dtype, jnp.integer):
        values = np.asarray(array)
        low, high = (0, rows - 1) if rows else (int(values.min()), int(values.max()))
        return rng.integers(low, high, array.shape, array.dtype, endpoint=True)
    if array.size and jnp.issubdtype(array.dtype, jnp.floating):
        values = np.asarray(array, np.float64)
        drawn = rng.normal(values.mean(), values.std(), array.shape)
        return drawn.astype(array.dtype)
    return np.asarray(array) if jnp.issubdtype(array.dtype, jnp.number) else array
