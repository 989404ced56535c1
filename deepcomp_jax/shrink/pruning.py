"""Pruning by whole units, so that what is left can be cut and runs faster."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import trees
from deepcomp_jax.shrink.axes import label
from deepcomp_jax.shrink.axis_rules import Axes
from deepcomp_jax.shrink.grouping import Group, Part, groups_of
from deepcomp_jax.shrink.program import Program, trace
from deepcomp_jax.shrink.spaces import Spaces


class _Labels(NamedTuple):
    program: Program
    spaces: Spaces
    axes: list[Axes]


def groups(fn: Callable[..., Any], params: Any, example: Any) -> tuple[Group, ...]:
    """Finds which axes of leaves have units that can only be cut together.

    Fang et al. 2023 (DepGraph, arXiv 2301.12900) find such groups from layers of known
    types; here they follow from the operations that JAX traces.

    Args:
        fn: The function, called as `fn(params, batch)`.
        params: Its parameters, a pytree of arrays or `jax.ShapeDtypeStruct`.
        example: A batch, of the same.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import shrink
        >>> params = {"first": jnp.ones((2, 3)), "second": jnp.ones((3, 1))}
        >>> net = lambda params, x: jnp.tanh(x @ params["first"]) @ params["second"]
        >>> (hidden,) = shrink.groups(net, params, jnp.zeros((4, 2)))
        >>> hidden.name, hidden.size, [(part.leaf, part.axis) for part in hidden.parts]
        ('first:1', 3, [('first', 1), ('second', 0)])
    """
    program = trace(fn, params, example)
    network = _Labels(program, *label(program))
    names = list(trees.named_leaves(params))
    return tuple(groups_of(network, names).values())


def prune_units(
    params: Any,
    groups: Sequence[Group],
    *,
    loss: float,
    importance: Any | Callable[[Any], Any] | None = None,
) -> Any:
    """Sets the least important units of each group to zero, for `exact` to cut.

    The importance of a unit is the sum over its weights in all leaves of the group, as
    in DepGraph (Fang et al. 2023, arXiv 2301.12900, section 3.3). In each group units
    go, the least important first, as long as all that go have no more than a fraction
    of the importance of the group. One unit stays at least.

    Args:
        params: A pytree of arrays.
        groups: Those of `groups` whose units may go.
        loss: The fraction, 0 to 1.
        importance: A tree like `params` with the importance of each weight, at least 0,
            or a function that makes one of them; squares of weights if it is None.

    Returns:
        The parameters with zeros for all weights of the units that go. Values that
        units only carry along, such as variances, stay.

    Raises:
        ValueError: The loss is no number or out of range, `groups` holds no group or
            something else, or a leaf of a group or its importance is missing or has
            another shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> from deepcomp_jax import shrink
        >>> params = {"first": jnp.array([[3.0, 0.1, 2]]), "second": jnp.ones((3, 1))}
        >>> net = lambda params, x: jnp.tanh(x @ params["first"]) @ params["second"]
        >>> groups = shrink.groups(net, params, jnp.zeros((4, 1)))
        >>> pruned = shrink.prune_units(params, groups, loss=0.1)
        >>> pruned["first"].tolist(), pruned["second"].tolist()
        ([[3.0, 0.0, 2.0]], [[1.0], [0.0], [1.0]])
    """
    _check_loss(loss)
    groups = _checked(groups)
    if importance is None:
        importance = jax.tree.map(lambda x: jnp.square(jnp.abs(x)), params)
    elif callable(importance):
        importance = importance(params)
    worth = trees.named_leaves(importance)
    named = trees.named_leaves(params)
    for group in groups:
        gone = _least(_of_units(group, named, worth), loss)
        for part in group.parts:
            if not part.carried:
                named[part.leaf] = _without(named[part.leaf], part, gone)
    return trees.rebuild(params, named)


def _check_loss(loss: Any) -> None:
    number = np.asarray(loss)
    real = number.ndim == 0 and number.dtype.kind in "iuf"
    if not real or not 0 <= number <= 1:
        raise ValueError(
            f"loss is {loss!r}; it must be at least 0 and at most 1, and a number"
        )


def _checked(groups: Any) -> tuple[Group, ...]:
    if isinstance(groups, Group):
        raise ValueError("groups is a single group: pass a list of it, `[group]`")
    found = tuple(groups) if isinstance(groups, Iterable) else (groups,)
    if not found:
        raise ValueError("there are no groups: pass some of those of `shrink.groups`")
    for other in found:
        if not isinstance(other, Group):
            raise ValueError(
                f"groups holds something of type {type(other).__name__}: pass some of "
                "the groups that `shrink.groups` returns"
            )
    return found


def _of_units(group: Group, named: dict[str, Any], worth: dict[str, Any]) -> np.ndarray:
    """float64[units]: the importance of each unit of a group."""
    found = np.zeros(group.size)
    for part in group.parts:
        own, given = (
            np.shape(leaves[part.leaf]) if part.leaf in leaves else ()
            for leaves in (named, worth)
        )
        if own != given or own[part.axis : part.axis + 1] != part.units.shape:
            raise ValueError(
                f"leaf {part.leaf!r} has the shape {own}, its importance {given}, and "
                f"group {group.name!r} {part.units.size} places on axis {part.axis}: "
                "pass the groups of these parameters and the importance of each weight"
            )
        if not part.carried:
            others = tuple(i for i in range(len(own)) if i != part.axis)
            sums = np.asarray(worth[part.leaf], np.float64).sum(axis=others)
            there = part.units >= 0
            np.add.at(found, part.units[there], sums[there])
    return found


def _least(worth: np.ndarray, loss: float) -> np.ndarray:
    """bool[units]: the units that go."""
    order = np.argsort(worth, kind="stable")[:-1]
    gone = np.zeros(worth.shape, bool)
    gone[order[np.cumsum(worth[order]) <= loss * worth.sum()]] = True
    return gone


def _without(leaf: Any, part: Part, gone: np.ndarray) -> Any:
    """A leaf with zeros in some units."""
    shape = [1] * np.ndim(leaf)
    shape[part.axis] = -1
    cut = (part.units >= 0) & gone[part.units]
    kept = ~cut.reshape(shape)
    return leaf * kept.astype(leaf.dtype)
