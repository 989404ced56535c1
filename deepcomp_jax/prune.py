"""Pruning: masks (True = kept) that say which weights of a network are kept.

A pruning method is a function from all leaves that follow one rule to their masks. So
it may look at one tensor at a time (`by_std`, `by_magnitude`) or at all of them
together (`by_global_magnitude`, `by_erk`). No method brings back a weight that is zero.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from deepcomp_jax import trees
from deepcomp_jax.rules import Followed, PruneMethod, Rule, resolve
from deepcomp_jax.trees import placement

__all__ = (
    "apply",
    "by_erk",
    "by_global_magnitude",
    "by_magnitude",
    "by_std",
    "cubic_schedule",
    "erk_densities",
    "masks",
)


def by_std(quality: float | jax.Array) -> PruneMethod:
    """Keeps weights larger than `quality` times the standard deviation of their tensor.

    The deviation is that of the tensor's non-zero weights about their mean, so that a
    quality means the same at every sparsity. Han et al. 2015 (arXiv 1506.02626, section
    3) prune by "a quality parameter multiplied by the standard deviation of a layer's
    weights".

    Args:
        quality: The factor, at least 0. Under `jit` it may be traced, and is then not
            checked.

    Raises:
        ValueError: The quality is below 0.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import prune
        >>> prune.by_std(0.5)([jnp.array([-2.0, 0.1, 0.2, 2.0])])
        [Array([ True, False, False,  True], dtype=bool)]
    """
    possible = isinstance(quality, Tracer) or quality >= 0
    _check(possible, f"quality is {quality}; it must be at least 0")

    def mask(weights: jax.Array) -> jax.Array:
        kept = weights != 0
        scaled = _scaled(weights)
        # Without non-zero weights there is no deviation (NaN), and nothing is kept.
        std = jnp.std(scaled, where=kept)
        return kept & (jnp.abs(scaled) > quality * std)

    return lambda leaves: [mask(leaf) for leaf in leaves]


def _scaled(weights: jax.Array) -> jax.Array:
    """Multiplies by a power of two, so that no square overflows or underflows."""
    wide = trees.widened(weights)
    _, exponent = jnp.frexp(jnp.max(jnp.abs(wide), initial=0))
    half = exponent // 2  # in two steps, since 2**-exponent may be infinite
    return jnp.ldexp(jnp.ldexp(wide, -half), half - exponent)


def by_magnitude(sparsity: float | jax.Array) -> PruneMethod:
    """Prunes the smallest weights of each tensor, the same fraction in each.

    Args:
        sparsity: Fraction of each tensor that is zero afterwards, 0 to 1, rounded to
            whole weights. It may be a value of `cubic_schedule`, under `jit` too, where
            it is not checked and the number of weights is as precise as float32.

    Raises:
        ValueError: The sparsity is out of range.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import prune
        >>> prune.by_magnitude(0.5)([jnp.array([1.0, -2.0]), jnp.array([3.0, 4.0])])
        [Array([False,  True], dtype=bool), Array([False,  True], dtype=bool)]
    """
    _check_sparsity(sparsity)
    return lambda leaves: [_smallest_out([leaf], sparsity)[0] for leaf in leaves]


def by_global_magnitude(sparsity: float | jax.Array) -> PruneMethod:
    """Prunes the smallest weights of all tensors together.

    Args:
        sparsity: Fraction of all weights that is zero afterwards, 0 to 1, as for
            `by_magnitude`.

    Raises:
        ValueError: The sparsity is out of range.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import prune
        >>> leaves = [jnp.array([1.0, -2.0]), jnp.array([3.0, 4.0])]
        >>> prune.by_global_magnitude(0.5)(leaves)
        [Array([False, False], dtype=bool), Array([ True,  True], dtype=bool)]
    """
    _check_sparsity(sparsity)
    return lambda leaves: _smallest_out(leaves, sparsity)


def by_erk(sparsity: float | jax.Array) -> PruneMethod:
    """Prunes the smallest weights of each tensor; small tensors keep a larger fraction.

    The density of a tensor is proportional to the sum of its dimensions over their
    product, and at most 1: the Erdos-Renyi kernel of Evci et al. 2020 (RigL, arXiv
    1911.11134, section 3).

    Args:
        sparsity: Fraction of all weights that is zero afterwards, 0 to 1, as for
            `by_magnitude`.

    Raises:
        ValueError: The sparsity is out of range.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import prune
        >>> large, small = prune.by_erk(0.8)([jnp.ones((40, 40)), jnp.ones((4, 10))])
        >>> int(large.sum()), int(small.sum())
        (288, 40)
    """
    _check_sparsity(sparsity)

    def masks(leaves: Sequence[jax.Array]) -> list[jax.Array]:
        xp = jnp if isinstance(sparsity, Tracer) else np
        densities = _densities([leaf.shape for leaf in leaves], 1 - sparsity, xp)
        return [
            _smallest_out([leaf], 1 - density)[0]
            for leaf, density in zip(leaves, densities, strict=True)
        ]

    return masks


def erk_densities(shapes: Sequence[tuple[int, ...]], density: float) -> list[float]:
    """Shares out a density over tensors as the Erdos-Renyi kernel does.

    Args:
        shapes: The shapes of the tensors.
        density: Fraction of all weights that is kept, 0 to 1.

    Returns:
        The density of each tensor, in [0, 1].

    Examples:
        >>> from deepcomp_jax import prune
        >>> prune.erk_densities([(40, 40), (4, 10)], 0.2)
        [0.18, 1.0]
    """
    return [float(value) for value in _densities(shapes, density, np)]


def _densities(
    shapes: Sequence[tuple[int, ...]], density: float | jax.Array, xp: Any
) -> Sequence[Any]:
    """Does so by NumPy or, for a density that may be traced, by `xp = jax.numpy`."""
    sizes = np.array([np.prod(shape) for shape in shapes], float)
    # A scalar counts as a tensor of one dimension of length one.
    sums = np.array([np.sum(shape or (1,)) for shape in shapes], float)
    full = np.zeros(len(shapes), bool)
    scale: Any = 0.0
    # A tensor whose density would be above 1 is dense, and the others share the rest.
    # Each round makes at least one more tensor dense, or changes nothing any more.
    for _ in range(len(shapes) + 1):
        rest = density * sizes.sum() - xp.where(full, sizes, 0.0).sum()
        scale = rest / xp.maximum(xp.where(full, 0.0, sums).sum(), 1.0)
        full = full | (scale * sums > sizes)
    densities = xp.where(full, 1.0, scale * sums / np.maximum(sizes, 1.0))
    return xp.clip(densities, 0.0, 1.0)


def cubic_schedule(
    initial: float, final: float, steps: int
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """Makes a schedule of sparsity that rises fast at first and slowly at the end.

    The sparsity is `final + (initial - final) * (1 - step / steps)**3`, after Zhu and
    Gupta 2017 (arXiv 1710.01878, equation 1). Like a schedule of optax, the result maps
    a step to a value and can be compiled.

    Args:
        initial: Sparsity at step 0.
        final: Sparsity at `steps` and after.
        steps: How many steps the rise takes, at least 1.

    Raises:
        ValueError: `steps` is below 1 or a sparsity out of range.

    Examples:
        >>> from deepcomp_jax import prune
        >>> schedule = prune.cubic_schedule(0.0, 0.8, steps=4)
        >>> [round(float(schedule(step)), 3) for step in range(5)]
        [0.0, 0.463, 0.7, 0.788, 0.8]
    """
    _check_sparsity(initial)
    _check_sparsity(final)
    _check(steps >= 1, f"steps is {steps}; it must be at least 1")

    def sparsity(step: jax.typing.ArrayLike) -> jax.Array:
        left = 1.0 - jnp.clip(jnp.asarray(step, jnp.float32) / steps, 0.0, 1.0)
        return final + (initial - final) * left**3

    return sparsity


def masks(params: Any, rules: Sequence[Rule], previous: Any = None) -> Any:
    """Makes the masks of a whole pytree.

    Args:
        params: Any pytree of arrays.
        rules: Which leaves are pruned, and by what method. All others are kept whole.
        previous: Masks of an earlier call. What they prune stays pruned.

    Returns:
        Booleans in the structure of `params`: an array in the shape of the leaf where a
        rule prunes it, and `True` of shape `()` for every other leaf.

    Raises:
        ValueError: A leaf with a method is not of a floating type or holds NaN or
            infinity, or a rule matches no leaf.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import Rule, prune
        >>> params = {"kernel": jnp.array([0.1, -2.0, 3.0]), "bias": jnp.ones(2)}
        >>> prune.masks(params, [Rule("kernel", prune=prune.by_magnitude(1 / 3))])
        {'bias': Array(True, dtype=bool), 'kernel': Array([False,  True,  True], \
dtype=bool)}
    """
    named = trees.named_leaves(params)
    new = {name: jnp.array(True) for name in named}
    new |= leaf_masks(named, resolve(rules, named))
    if previous is not None:
        old = trees.named_leaves(previous)
        new = {name: jnp.logical_and(mask, old[name]) for name, mask in new.items()}
    return trees.rebuild(params, new)


def leaf_masks(
    named: Mapping[str, Any], followed: Mapping[str, Followed]
) -> dict[str, jax.Array]:
    """Makes the masks of those leaves that a rule prunes, by name.

    Args:
        named: All leaves, by name.
        followed: The rules that they follow, from `rules.resolve`.
    """
    # Rules are told apart by identity, since methods need not be hashable.
    members: dict[int, tuple[PruneMethod, list[str]]] = {}
    for name, (rule, _) in followed.items():
        if rule.prune is not None:
            members.setdefault(id(rule), (rule.prune, []))[1].append(name)
    masks: dict[str, jax.Array] = {}
    for method, names in members.values():
        leaves = [jnp.asarray(_checked(name, named[name])) for name in names]
        masks.update(zip(names, method(leaves), strict=True))
    return masks


def apply(params: Any, masks: Any) -> Any:
    """Sets all pruned weights to exactly zero.

    Args:
        params: Any pytree of arrays.
        masks: Booleans in the structure of `params`. True = kept.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import prune
        >>> prune.apply({"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([False, True])})
        {'w': Array([ 0., -2.], dtype=float32)}
    """
    return jax.tree.map(
        lambda leaf, mask: jnp.where(mask, leaf, jnp.zeros((), leaf.dtype)),
        params,
        masks,
    )


def _checked(name: str, leaf: Any) -> Any:
    # Under `jit` there are no values to look at yet.
    return leaf if isinstance(leaf, Tracer) else trees.check_weights(name, leaf)


def _smallest_out(
    leaves: Sequence[jax.Array], sparsity: float | jax.Array
) -> list[jax.Array]:
    """Masks that prune the smallest magnitudes and, of equal ones, the last."""
    if not leaves:
        return []
    sizes = [leaf.size for leaf in leaves]
    together = placement.together(leaves)
    magnitudes = jnp.concatenate([jnp.abs(leaf).ravel() for leaf in together])
    traced = isinstance(sparsity, Tracer)
    wanted = sum(sizes) * (1.0 - (sparsity if traced else float(sparsity)))
    kept = jnp.round(wanted) if traced else round(wanted)
    # A stable sort by falling magnitude keeps exactly so many weights despite ties.
    order = jnp.argsort(-magnitudes, stable=True)
    # No shape depends on `kept`, so that one program serves every sparsity.
    first = jnp.arange(magnitudes.size) < kept
    mask = jnp.zeros_like(first).at[order].set(first) & (magnitudes > 0)
    parts = jnp.split(mask, np.cumsum(sizes)[:-1])
    return [
        placement.beside(part.reshape(leaf.shape), leaf)
        for part, leaf in zip(parts, leaves, strict=True)
    ]


def _check_sparsity(sparsity: float | jax.Array) -> None:
    # Under `jit` there is no value to look at yet.
    possible = isinstance(sparsity, Tracer) or 0 <= sparsity <= 1
    _check(possible, f"sparsity is {sparsity}; it must be from 0 to 1")


def _check(condition: Any, message: str) -> None:
    if not condition:
        raise ValueError(message)
