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
        are normal with the mean and deviation of those of the example that are finite;
        where it has infinity or NaN, these stay. Booleans are kept, and random keys as
        they are.

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
        low, high = int(values.min()), int(values.max())
        if rows:
            low, high = 0, min(rows - 1, int(jnp.iinfo(array.dtype).max))
        return rng.integers(low, high, array.shape, array.dtype, endpoint=True)
    if array.size and jnp.issubdtype(array.dtype, jnp.floating):
        values = np.asarray(array, np.float64)
        is_finite = np.isfinite(values)
        known = values[is_finite] if is_finite.any() else np.zeros(1)
        drawn = rng.normal(known.mean(), known.std(), array.shape)
        return np.where(is_finite, drawn, values).astype(array.dtype)
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    return array if is_key else np.asarray(array)
