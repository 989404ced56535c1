"""Retraining what was pruned: masks as a part of any optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class KeepPrunedState(NamedTuple):
    """State of `keep_pruned`.

    Attributes:
        masks: Tree of boolean arrays in the structure of the parameters, each in the
            shape of its parameter or of shape `()`. True = kept.
        inner: State of the wrapped optimizer.
    """

    masks: Any
    inner: Any


def keep_pruned(
    inner: optax.GradientTransformation, masks: Any
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer so that pruned weights stay exactly zero.

    The gradient of a pruned weight is hidden from `inner`, so that neither its moments
    nor a norm over all gradients see it; and whatever `inner` answers for it (momentum
    from before the pruning, weight decay) is replaced by the step to exactly zero.
    Masking the gradients alone is not enough: Adam moves a weight that was just pruned.
    Retraining as in Han et al. 2015 (arXiv 1506.02626, section 3).

    The masks are a part of the state, so a compiled step serves all iterations of
    pruning: see `set_masks`.

    Args:
        inner: Any optimizer.
        masks: Tree of booleans as made by `prune.masks`. True = kept.

    Returns:
        A transformation whose `update` needs `params`. It may itself be a part of
        `optax.chain`, `optax.masked` or `optax.multi_transform`.

    Raises:
        ValueError: `update` is called without `params`.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from deepcomp_jax import retrain
        >>> masks = {"w": jnp.array([False, True])}
        >>> optimizer = retrain.keep_pruned(optax.sgd(1.0), masks)
        >>> params = {"w": jnp.array([0.0, 5.0])}
        >>> optimizer.update({"w": jnp.ones(2)}, optimizer.init(params), params)[0]
        {'w': Array([-0., -1.], dtype=float32)}
    """
    wrapped = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> KeepPrunedState:
        return KeepPrunedState(_copied(masks), wrapped.init(params))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, KeepPrunedState]:
        if params is None:
            raise ValueError(
                "keep_pruned moves pruned weights to zero and so needs the parameters: "
                "call update(updates, state, params)"
            )
        updates = jax.tree.map(_kept, state.masks, updates)
        updates, new_inner = wrapped.update(updates, state.inner, params, **extra_args)
        updates = jax.tree.map(_kept_or_to_zero, state.masks, updates, params)
        return updates, KeepPrunedState(state.masks, new_inner)

    return optax.GradientTransformationExtraArgs(init, update)


def set_masks(optimizer: optax.GradientTransformation, state: Any, masks: Any) -> Any:
    """Puts new masks into the state of `keep_pruned` after an iteration of pruning.

    Every part of the state that has the structure and the shapes of the parameters
    (momentum, both moments of Adam) is set to zero where a weight is pruned. Others,
    such as the factored moments of Adafactor, stay as they are.

    Args:
        optimizer: What `keep_pruned` returned, or a chain or the like that it is in.
        state: Of the optimizer, or the `opt_state` of an `nnx.Optimizer` around it.
        masks: The new masks, in the structure of the old. True = kept.

    Returns:
        The new state, in the containers of `state`.

    Raises:
        ValueError: There is no `keep_pruned` in the optimizer.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from deepcomp_jax import retrain
        >>> params = {"w": jnp.array([1.0, 5.0])}
        >>> optimizer = retrain.keep_pruned(optax.adam(1.0), {"w": jnp.array(True)})
        >>> state = optimizer.init(params)
        >>> state = retrain.set_masks(optimizer, state, {"w": jnp.array([False, True])})
        >>> state.masks
        {'w': Array([False,  True], dtype=bool)}
    """
    # NNX has wrapped every array in a variable of its own.
    structure = jax.tree.structure(jax.eval_shape(optimizer.init, masks))
    plain = jax.tree.unflatten(structure, jax.tree.leaves(state))
    cleared: Any = optax.tree.map_params(
        optimizer, _cleared, plain, masks, is_leaf=_is_left_out
    )
    parts, around = jax.tree.flatten(cleared, is_leaf=_has_masks)
    if not any(map(_has_masks, parts)):
        raise ValueError(
            "the optimizer holds no masks: wrap it, or a part of it, by keep_pruned"
        )
    parts = [
        part._replace(masks=_copied(masks)) if _has_masks(part) else part
        for part in parts
    ]
    new = jax.tree.unflatten(around, parts)
    return jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(new))


def _has_masks(node: Any) -> bool:
    return isinstance(node, KeepPrunedState)


def _copied(masks: Any) -> Any:
    """Arrays of the state's own: a step may consume its state."""
    return jax.tree.map(jnp.array, masks)


def _is_left_out(node: Any) -> bool:
    """Whether `optax.masked` or the like has left a parameter to another optimizer."""
    return isinstance(node, optax.MaskedNode)


def _kept(mask: jax.Array, update: Any) -> Any:
    return update if _is_left_out(update) else jnp.where(mask, update, 0.0)


def _kept_or_to_zero(mask: jax.Array, update: Any, param: Any) -> Any:
    if _is_left_out(update):
        return update
    return jnp.where(mask, update, -param)  # in the wider of their dtypes


def _cleared(leaf: Any, mask: Any) -> Any:
    if _is_left_out(leaf):
        return leaf
    fits = jnp.shape(mask) in ((), jnp.shape(leaf))
    return jnp.where(mask, leaf, 0) if fits else leaf
