"""Retraining a pruned network: any optimizer, made to keep pruned weights at zero."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class KeepPrunedState(NamedTuple):
    """The state of `keep_pruned`.

    Attributes:
        masks: Boolean arrays in the structure of the parameters, each in the shape of
            its parameter or of shape `()`. True = kept.
        inner: The state of the wrapped optimizer.
    """

    masks: Any
    inner: Any


def keep_pruned(
    inner: optax.GradientTransformation, masks: Any
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer so that pruned weights stay exactly zero.

    The gradient of a pruned weight is hidden from `inner`, so that it counts neither in
    moments nor in a norm over all gradients. Whatever update `inner` returns for the
    weight (from weight decay, or momentum from before the pruning) is replaced by the
    step to exactly zero. To mask the gradients alone would not be enough: Adam goes on
    moving a weight that was just pruned. Retraining is that of Han et al. 2015 (arXiv
    1506.02626, section 3).

    The masks are a part of the state, so that one compiled step serves all iterations
    of pruning; `set_masks` replaces them.

    Args:
        inner: Any optimizer.
        masks: Booleans as made by `prune.masks`. True = kept.

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

    Every part of the state that has the structure and the shapes of the parameters,
    such as momentum and both moments of Adam, is set to zero where a weight is pruned.
    Other parts, such as the factored moments of Adafactor, stay as they are.

    Args:
        optimizer: What `keep_pruned` returned, or an optimizer that contains it, such
            as an `optax.chain`.
        state: The state of the optimizer, or the `opt_state` of an `nnx.Optimizer`.
        masks: The new masks, in the structure of the old. True = kept.

    Returns:
        The new state, in the containers of `state`.

    Raises:
        ValueError: There is no `keep_pruned` in the optimizer, or the state is of
            parameters in another structure than that of the masks.

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
    # NNX wraps every array of the state in a variable, which optax does not know.
    structure = jax.tree.structure(jax.eval_shape(optimizer.init, masks))
    held = jax.tree.leaves(state)
    if len(held) != structure.num_leaves:
        raise ValueError(
            f"the state holds {len(held)} arrays, and {structure.num_leaves} for "
            "parameters like these masks: give a mask for each parameter of `init`"
        )
    plain = jax.tree.unflatten(structure, held)
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
    """Copies masks into new memory, since a compiled step may consume its state."""
    return jax.tree.map(jnp.array, masks)


def _is_left_out(node: Any) -> bool:
    """Whether `optax.masked` or the like left a parameter to another optimizer."""
    return isinstance(node, optax.MaskedNode)


def _kept(mask: jax.Array, update: Any) -> Any:
    """A gradient, or zero where the weight is pruned."""
    return update if _is_left_out(update) else jnp.where(mask, update, 0.0)


def _kept_or_to_zero(mask: jax.Array, update: Any, param: Any) -> Any:
    """An update, or the step to zero, in the wider dtype of both."""
    return update if _is_left_out(update) else jnp.where(mask, update, -param)


def _cleared(leaf: Any, mask: Any) -> Any:
    """A part of the state, zero where the weight is pruned, if the shapes fit."""
    if _is_left_out(leaf) or jnp.shape(mask) not in ((), jnp.shape(leaf)):
        return leaf
    return jnp.where(mask, leaf, 0)
