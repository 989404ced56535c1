"""Training for a small file: what weights cost, as a differentiable function.

A network that is trained with its rate in the loss,

    prices = rate_loss.position_bits(params, steps)
    loss + price_of_a_bit * rate_loss.expected_bits(params, steps, prices)

loses the weights that are not worth their bits, beginning with those that stand alone:
the grouped coding makes a weight cheap where its row and its column keep many, so that
whole rows and columns become empty. Oktay et al. put a rate into the loss ("Scalable
Model Compression by Entropy Penalized Reparameterization", ICLR 2020, arXiv
1906.06624); Geman and Reynolds 1992 replace a count by penalties like |w| / (|w| + c).

Each leaf has a uniform grid, to whose points its weights are rounded in the end. Every
function here takes the steps of the grids. A weight below half a step counts as zero.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from deepcomp_jax.rules import Rule
from deepcomp_jax.share.methods import PRECISE, distinct
from deepcomp_jax.share.weights import SharedWeights, share
from deepcomp_jax.trees import placement

_MOST = 0.5  # a position of at least this density costs nothing
_LEAST = 1e-6  # a lower bound on densities, which keeps the cost of a position finite
_INDEX_BITS = 1.5  # what the index of a small weight takes: its sign, and being small


def step_sizes(params: Any, factor: float, *, of_vectors: float) -> Any:
    """Chooses the step of the grid of each leaf, in proportion to its weights.

    Args:
        params: Any pytree of floating arrays, such as those of a dense network.
        factor: The step of a leaf of two dimensions or more, in root mean squares of
            its weights.
        of_vectors: The step of all other leaves, such as biases, and of leaves that
            are all zero, such as a last kernel that is initialized so.

    Returns:
        float32 scalars in the structure of `params`. They are rounded to float16, which
        is two bytes shorter in a file, where that loses no precision that matters.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import rate_loss
        >>> params = {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.ones(2)}
        >>> rate_loss.step_sizes(params, 2.0, of_vectors=0.25)
        {'bias': Array(0.25, dtype=float32), 'kernel': Array(7.0703125, dtype=float32)}
    """

    def step(leaf: jax.Array) -> jax.Array:
        chosen = jnp.float32(of_vectors)
        if leaf.ndim > 1 and leaf.size > 0:
            wide = factor * jnp.sqrt(jnp.mean(jnp.square(leaf.astype(jnp.float32))))
            chosen = jnp.where(wide > 0, wide, chosen).astype(jnp.float32)
        short = chosen.astype(jnp.float16).astype(jnp.float32)
        return jnp.where(jnp.abs(short - chosen) <= PRECISE * chosen, short, chosen)

    return jax.tree.map(step, params)


def position_bits(params: Any, steps: Any) -> Any:
    """Prices the position of each weight: the bits that one more weight there takes.

    A position of density q costs log2((1 - q) / q) bits, which is the derivative of the
    entropy of all positions by the number of weights that are kept. The density is that
    of the leaf, times how much denser the row, the column and so on of the position are
    than the leaf, and at most 1/2, so that no price is negative.

    Args:
        params: Any pytree of floating arrays.
        steps: The steps of the grids, in the structure of `params`, as made by
            `step_sizes`.

    Returns:
        float32 arrays in the structure and shapes of `params`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import rate_loss
        >>> rate_loss.position_bits(jnp.array([1.0] + 62 * [0.0]), 1.0)[0].round(2)
        Array(5.38, dtype=float32)
    """
    return jax.tree.map(_position_bits, params, steps)


@jax.jit
def _position_bits(leaf: jax.Array, step: jax.Array) -> jax.Array:
    kept = (jnp.abs(leaf) > 0.5 * step).astype(jnp.float32)
    mean = (kept.sum() + 0.5) / (kept.size + 1.0)
    density = jnp.full(leaf.shape, mean)
    for axis, size in enumerate(leaf.shape):
        if leaf.ndim > 1 and size > 1:
            others = tuple(a for a in range(leaf.ndim) if a != axis)
            here = kept.sum(others, keepdims=True)
            density *= (here / mean + 1) / (kept.size / size + 1)
    density = jnp.clip(density, _LEAST, _MOST)
    return jnp.log2((1 - density) / density)


def expected_bits(
    params: Any, steps: Any, prices: Any, *, width: float = 0.1
) -> jax.Array:
    """Estimates the bits that all weights take, as a function with useful derivatives.

    A weight counts as kept to the degree |w| / (|w| + width * step). What is kept costs
    the price of its position and an index of 1.5 + log2(1 + |w| / step) bits. The
    derivative at exactly zero is zero, so that a zero is moved by the loss alone.

    Args:
        params: Any pytree of floating arrays.
        steps: The steps of the grids, in the structure of `params`.
        prices: The prices of positions, as made by `position_bits`. It is best to make
            them anew about once an epoch.
        width: How far from zero a weight counts as half kept, in steps. A smaller width
            pulls harder at small weights and less at large ones.

    Returns:
        The bits, a scalar.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import rate_loss
        >>> params = jnp.array([0.0, 3.0])
        >>> f"{rate_loss.expected_bits(params, 1.0, jnp.zeros(2)):.2f} bits"
        '3.39 bits'
    """

    def cost(leaf: jax.Array, step: jax.Array, price: jax.Array) -> jax.Array:
        size = leaf * jnp.sign(leaf) / step  # |leaf|, but of derivative 0 at 0
        kept = size / (size + width)
        return jnp.sum(kept * (price + _INDEX_BITS + jnp.log2(1 + size)))

    costs = jax.tree.leaves(jax.tree.map(cost, params, steps, prices))
    costs = placement.together(costs, jax.tree.leaves(prices))
    return sum(costs, jnp.zeros(()))


def fake_quant(params: Any, steps: Any) -> Any:
    """Rounds weights to multiples of the steps, but passes gradients on unchanged.

    This is the straight-through estimator (Bengio, Leonard and Courville 2013, arXiv
    1308.3432): a weight that is rounded to zero goes on collecting its gradient, and
    may come back.

    Args:
        params: Any pytree of floating arrays.
        steps: The steps of the grids, in the structure of `params`.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from deepcomp_jax import rate_loss
        >>> rate_loss.fake_quant(jnp.array([0.2, 0.9]), 0.5)
        Array([0., 1.], dtype=float32)
        >>> jax.grad(lambda w: 3 * rate_loss.fake_quant(w, 0.5))(0.2)
        Array(3., dtype=float32, weak_type=True)
    """
    return jax.tree.map(_round_to, params, steps)


@jax.jit
def _round_to(leaf: jax.Array, step: jax.Array) -> jax.Array:
    zero = leaf - jax.lax.stop_gradient(leaf)  # whose derivative is 1
    nearest = (step * jnp.round(leaf / step)).astype(leaf.dtype)
    return jax.lax.stop_gradient(nearest) + zero


def shared_weights(params: Any, steps: Any) -> SharedWeights:
    """Rounds the network to its grids and labels its weights, ready for `pack`.

    Args:
        params: Any pytree of floating arrays.
        steps: The steps of the grids, in the structure of `params`, as made by
            `step_sizes`.

    Returns:
        A network whose `share.lookup` is `fake_quant(params, steps)`.

    Raises:
        ValueError: A leaf holds NaN or infinity, or more than 32768 distinct multiples
            of its step.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import rate_loss
        >>> shared = rate_loss.shared_weights({"w": jnp.array([0.2, 0.9])}, {"w": 0.5})
        >>> shared.codebooks["w"], shared.labels["w"]
        (Array([1.], dtype=float32), Array([0, 1], dtype=uint8))
    """
    return share(fake_quant(params, steps), [Rule("", share=distinct)])


def scale_by_step_size(
    inner: optax.GradientTransformation, steps: Any
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer so that its learning rate is in steps of the grids.

    Adam moves all weights by about as much. But it takes a whole step to get a weight
    from one value to the next, so that leaves with coarse grids would learn too slowly
    and those with fine grids would jump about.

    Args:
        inner: Any optimizer.
        steps: The steps of the grids, in the structure of the parameters.

    Returns:
        A transformation whose updates are those of `inner` times the steps.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from deepcomp_jax import rate_loss
        >>> optimizer = rate_loss.scale_by_step_size(optax.sgd(0.5), {"w": 4.0})
        >>> params = {"w": jnp.zeros(2)}
        >>> optimizer.update({"w": jnp.ones(2)}, optimizer.init(params), params)[0]
        {'w': Array([-2., -2.], dtype=float32)}
    """

    def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        del params
        return jax.tree.map(lambda x, step: (x * step).astype(x.dtype), updates, steps)

    return optax.chain(inner, optax.stateless(scale))
