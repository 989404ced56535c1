"""The rate as a differentiable function: what weights cost while they are trained.

A network that is trained with its rate in the loss,

    prices = rate_loss.position_bits(params, steps)
    loss + price_of_a_bit * rate_loss.expected_bits(params, steps, prices)

loses the weights that are not worth their bits, and those first that stand alone: the
grouped coding makes a weight cheap where its row and its column keep many, so whole
rows and columns become empty. (A rate in the loss: Oktay et al., "Scalable Model
Compression by Entropy Penalized Reparameterization", ICLR 2020, arXiv 1906.06624;
penalties of the kind |w| / (|w| + c) in place of a count: Geman and Reynolds 1992.)

Weights are put on uniform grids, one for each leaf, and every function here takes the
step of that grid: zero is what is smaller than half a step.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from deepcomp_jax.rules import Rule
from deepcomp_jax.share.methods import PRECISE, distinct
from deepcomp_jax.share.weights import SharedWeights, share
from deepcomp_jax.trees import placement

_MOST = 0.5  # density above which a place costs nothing
_LEAST = 1e-6  # density of a place that nothing speaks for
_INDEX_BITS = 1.5  # of the index of a small weight: its sign, and that it is small


def step_sizes(params: Any, factor: float, *, of_vectors: float) -> Any:
    """A step for each leaf, in units of what its weights are to begin with.

    Args:
        params: Any pytree of floating arrays, such as those of a dense network.
        factor: On the root of the mean square of a leaf of two dimensions or more.
        of_vectors: The step of all other leaves, such as biases, and of leaves that
            are all zero, such as a last kernel that begins so.

    Returns:
        Scalars, float32, in the structure of `params`, rounded to float16 where that is
        as precise as ever: it is two bytes shorter in a file.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import rate_loss
        >>> params = {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.ones(2)}
        >>> rate_loss.step_sizes(params, 2.0, of_vectors=0.25)
        {'bias': Array(0.25, dtype=float32), 'kernel': Array(7.0703125, dtype=float32)}
    """

    def step(leaf: jax.Array) -> jax.Array:
        wide = factor * jnp.sqrt(jnp.mean(jnp.square(leaf.astype(jnp.float32))))
        scaled = leaf.ndim > 1 and leaf.size > 0
        chosen = jnp.where(wide > 0, wide, of_vectors) if scaled else of_vectors
        chosen = jnp.float32(chosen)
        short = chosen.astype(jnp.float16).astype(jnp.float32)
        return jnp.where(jnp.abs(short - chosen) <= PRECISE * chosen, short, chosen)

    return jax.tree.map(step, params)


def position_bits(params: Any, steps: Any) -> Any:
    """What the position of one more weight would cost, in bits, where each weight is.

    A place whose expected density is q costs log2((1 - q) / q) bits: the derivative of
    the entropy of the positions by the number that are kept. q is the density of the
    leaf, times how much denser than the leaf each index of each axis is, and at most
    1/2, so that no price is negative.

    Args:
        params: Any pytree of floating arrays.
        steps: In its structure, as made by `step_sizes`.

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
        if leaf.ndim < 2 or size < 2:
            continue
        others = tuple(a for a in range(leaf.ndim) if a != axis)
        here = kept.sum(others, keepdims=True)
        density *= (here / mean + 1) / (kept.size / size + 1)
    density = jnp.clip(density, _LEAST, _MOST)
    return jnp.log2((1 - density) / density)


def expected_bits(
    params: Any, steps: Any, prices: Any, *, width: float = 0.1
) -> jax.Array:
    """What weights cost, in bits, as a function with useful derivatives.

    A weight counts as kept to the degree |w| / (|w| + width * step), and then costs its
    position and an index of 1.5 + log2(1 + |w| / step) bits. The derivative at exactly
    zero is zero: what is zero is moved by the loss alone.

    Args:
        params: Any pytree of floating arrays.
        steps: In its structure.
        prices: Of positions, as made by `position_bits`; best made anew once an epoch
            or so.
        width: Of the rise from zero to kept, in steps. The smaller, the harder small
            weights are pulled to zero, and the less large ones are.

    Returns:
        A scalar.

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
    """The nearest multiples of the steps, with the derivative of the weights.

    The straight-through estimator (Bengio, Leonard and Courville 2013, arXiv
    1308.3432): a weight that is rounded to zero goes on collecting its gradient, and
    may come back.

    Args:
        params: Any pytree of floating arrays.
        steps: In its structure.

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
    nothing = leaf - jax.lax.stop_gradient(leaf)  # but its derivative is 1
    nearest = (step * jnp.round(leaf / step)).astype(leaf.dtype)
    return jax.lax.stop_gradient(nearest) + nothing


def shared_weights(params: Any, steps: Any) -> SharedWeights:
    """The network on its grids, ready for `pack`.

    Args:
        params: Any pytree of floating arrays.
        steps: In its structure, as made by `step_sizes`.

    Returns:
        A network whose `share.lookup` is `fake_quant(params, steps)`.

    Raises:
        ValueError: A leaf holds NaN, infinity or more than 32768 multiples.

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
    """An optimizer whose learning rate is in steps of the grids.

    Adam moves all weights alike. But a weight comes from one value to the next by a
    whole step, so that leaves of coarse grids would learn more slowly than others, and
    those of fine ones would jump about.

    Args:
        inner: Any optimizer.
        steps: In the structure of the parameters.

    Returns:
        `inner`, every update of which is multiplied by the step of its leaf.

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
