"""How much the squared error of each weight counts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.dtypes import float0

from deepcomp_jax._errors import listed, warn
from deepcomp_jax.share.fitting import weighted

_FLOOR = 0.2  # of the mean importance of a leaf: no weight counts less
_MOSTLY = 0.5  # fraction of a leaf whose importance is not zero without a word


def floored(leaves: Mapping[str, Any], importance: Any) -> dict[str, np.ndarray] | None:
    """Importance that erases nothing, by name; None if there is none.

    What a calibration did not see has squared gradients of zero, which is no reason to
    erase it. So no weight counts less than a fifth of the mean of its leaf, and a leaf
    that is zero everywhere counts as the leaf that counts least.

    Args:
        leaves: By name, some or all of those of a network.
        importance: In the structure of that network, or None.

    Raises:
        ValueError: It does not fit the leaves, is negative, NaN or infinite, or is zero
            everywhere.
    """
    counts = weighted(leaves, importance)
    if counts is None:
        return None
    means = {
        n: float(own.mean(dtype=np.float64)) for n, own in counts.items() if own.size
    }
    least = min((mean for mean in means.values() if mean > 0), default=0.0)
    if means and not least:
        raise ValueError(
            "the importance of every leaf is zero everywhere, as at an optimum: give "
            "that of another loss, or None"
        )
    _warn_of_zeros(counts)
    return {
        name: np.maximum(own, _FLOOR * means[name] or least) if own.size else own
        for name, own in counts.items()
    }


def _warn_of_zeros(counts: Mapping[str, np.ndarray]) -> None:
    """Names the leaves that a calibration hardly saw."""
    zeros = {
        n: 1 - np.count_nonzero(own) / own.size for n, own in counts.items() if own.size
    }
    mostly = [f"{n} ({part:.0%})" for n, part in zeros.items() if part > _MOSTLY]
    if mostly:
        warn(
            f"importance is mostly zero in {listed(mostly)}: the batches do not "
            "show what these weights are for; give more, and more various, ones"
        )


def fisher_diagonal(
    loss: Callable[..., jax.Array], params: Any, batches: Iterable[Any]
) -> Any:
    """Mean squared gradients: how much a small change of each weight matters.

    The diagonal of the empirical Fisher matrix, up to a factor for the size of the
    batches: with one example a batch, `0.5 * sum(this * change**2)` estimates how much
    the mean loss grows by a change (LeCun, Denker and Solla 1990, with the Hessian
    replaced by squared gradients).

    Args:
        loss: `loss(params, batch)`, a scalar; is jitted here.
        params: Any pytree of arrays; those that are not floating get zeros.
        batches: One or more.

    Returns:
        Non-negative arrays in the structure of `params`, of float32 at least.

    Raises:
        ValueError: There is no batch.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import rate
        >>> loss = lambda params, x: jnp.sum(params["w"] * x)
        >>> batches = [jnp.array([1.0, 0.0]), jnp.array([3.0, 0.0])]
        >>> rate.fisher_diagonal(loss, {"w": jnp.ones(2)}, batches)
        {'w': Array([5., 0.], dtype=float32)}
    """

    @jax.jit
    def add(total: Any, batch: Any) -> Any:
        # Integers have no derivatives, but symbols of a type of their own.
        gradients = jax.grad(loss, allow_int=True)(params, batch)
        return jax.tree.map(
            lambda t, g: t if g.dtype == float0 else t + jnp.square(g.astype(t.dtype)),
            total,
            gradients,
        )

    def zeros(leaf: Any) -> jax.Array:
        dtype = jnp.promote_types(jnp.result_type(leaf), jnp.float32)
        return jnp.zeros(jnp.shape(leaf), dtype)

    total, count = jax.tree.map(zeros, params), 0
    for batch in batches:
        total, count = add(total, batch), count + 1
    if not count:
        raise ValueError("importance needs at least one batch")
    return jax.tree.map(lambda t: t / count, total)
