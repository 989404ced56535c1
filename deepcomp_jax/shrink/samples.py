"""Random inputs like an example."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def like(example: Any, seed: int) -> Any:
    """Draws arrays of the shapes and dtypes of an example.

    They have the values of the example in another order, so that whole numbers stay in
    their range. Where there are no values, or all are the same, floating ones are
    normal, booleans and whole numbers 0 or 1; constant whole numbers stay.
    """
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: _draw(leaf, random), example)


def _draw(leaf: Any, random: np.random.Generator) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        shape, dtype, values = leaf.shape, leaf.dtype, np.zeros(0)
    elif jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.extended):
        return leaf  # a random key
    else:
        values = np.asarray(leaf)
        shape, dtype = values.shape, jax.dtypes.canonicalize_dtype(values.dtype)
    if jnp.issubdtype(dtype, jnp.inexact):
        if np.all(values == values.ravel()[:1]):
            return np.asarray(random.standard_normal(shape), dtype)
        return np.asarray(random.choice(values.ravel(), shape), dtype)
    if values.size == 0:
        return np.asarray(random.integers(0, 2, shape), dtype)
    return np.asarray(random.choice(values.ravel(), shape), dtype)


def agree(wanted: Any, found: Any) -> bool:
    """Whether two trees of results are the same but for the rounding of sums."""
    pairs = zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True)
    return all(_agree(a, b) for a, b in pairs)


def _agree(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        return bool((a == b).all())
    tolerance = float(jnp.finfo(a.dtype).eps) ** 0.5
    kind = np.complex128 if jnp.issubdtype(a.dtype, jnp.complexfloating) else np.float64
    x, y = np.asarray(a, kind), np.asarray(b, kind)
    largest = np.abs(np.where(np.isfinite(x), x, 0)).max(initial=0)
    return np.allclose(y, x, rtol=0, atol=tolerance * largest, equal_nan=True)
