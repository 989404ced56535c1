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
    pruning: see `with_masks`.

    Args:
        inner: Any optimizer.
        masks: Tree of booleans as made by `prune.masks`. True = kept.

    Returns:
        A transformation whose `update` needs `params`.
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
        updates = _where(state.masks, updates, 0.0)
        updates, new_inner = wrapped.update(updates, state.inner, params, **extra_args)
        updates = jax.tree.map(
            lambda m, u, p: jnp.where(m, u, -p),  # in the wider of their dtypes
            state.masks,
            updates,
            params,
        )
        return updates, KeepPrunedState(state.masks, new_inner)

    return optax.GradientTransformationExtraArgs(init, update)


def with_masks(
    optimizer: optax.GradientTransformation, state: KeepPrunedState, masks: Any
) -> KeepPrunedState:
    """Puts new masks into the state of `keep_pruned` after an iteration of pruning.

    Every part of the inner state that has the structure of the parameters (momentum,
    both moments of Adam) is set to zero where a weight is pruned.

    Args:
        optimizer: What `keep_pruned` returned.
        state: Its state, or the `opt_state` of an `nnx.Optimizer` around it.
        masks: The new masks, in the structure of the old. True = kept.

    Returns:
        The new state, in the containers of `state`.
    """
    # NNX has wrapped every array in a variable of its own.
    plain = jax.tree.structure(jax.eval_shape(optimizer.init, masks).inner)
    inner = jax.tree.unflatten(plain, jax.tree.leaves(state.inner))
    cleared: Any = optax.tree.map_params(
        optimizer,
        lambda leaf, mask: jnp.where(mask, leaf, 0),
        KeepPrunedState(masks, inner),
        masks,
    )
    leaves = jax.tree.leaves((_copied(masks), cleared.inner))
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def _copied(masks: Any) -> Any:
    """Arrays of the state's own: a step may consume its state."""
    return jax.tree.map(jnp.array, masks)


def _where(masks: Any, tree: Any, other: float) -> Any:
    return jax.tree.map(lambda m, x: jnp.where(m, x, other), masks, tree)
