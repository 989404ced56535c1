"""Leaves that lose the units of some axes, and get them back."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.core import Tracer

from deepcomp_jax import trees
from deepcomp_jax._errors import listed

_NUMBERS = (bool, int, float, complex)

Indices: TypeAlias = tuple[
    np.ndarray | None, ...
]  # what is left of each axis; None: all


def like(tree: Any, own: Any, network: str, where: str) -> dict[str, Any]:
    """The leaves of a tree by name, which must be those of another one.

    Args:
        tree: A pytree of arrays.
        own: One with the names and shapes that it must have.
        network: Which one it belongs to, for the message.
        where: What else is such a tree, in words.

    Raises:
        ValueError: A leaf is missing, is none of these, or has another shape.
    """
    found, wanted = trees.named_leaves(tree), trees.named_leaves(own)
    lacks = [repr(name) for name in wanted if name not in found]
    more = [repr(name) for name in found if name not in wanted]
    if lacks or more:
        said = [f"lacks {listed(lacks)}"] * bool(lacks)
        said += [f"has {listed(more)} beside"] * bool(more)
        raise ValueError(
            f"the tree {' and '.join(said)}, other than the {network} network: pass a "
            f"tree like {where}"
        )
    for name, leaf in wanted.items():
        if np.shape(found[name]) != np.shape(leaf):
            raise ValueError(
                f"leaf {name!r} has the shape {np.shape(found[name])}, but "
                f"{np.shape(leaf)} in the {network} network: pass a tree like {where}"
            )
    return found


def check(params: Any) -> None:
    """Checks that all leaves are arrays with values.

    Raises:
        ValueError: One is not. The message says what it is.
    """
    for name, leaf in trees.named_leaves(params).items():
        if isinstance(leaf, Tracer):
            raise ValueError(
                f"leaf {name!r} is traced, and what is cut depends on its values: call "
                "this outside of `jit` and other transformations"
            )
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, *_NUMBERS)):
            raise ValueError(
                f"leaf {name!r} is {type(leaf).__name__}, and no array: pass "
                "parameters that are (those of an open file by its `load()`), and let "
                "the function close over all else"
            )


def cut(leaf: Any, kept: Indices | None) -> Any:
    """The part of a leaf that is left."""
    return leaf if kept is None else leaf[_grid(leaf.shape, kept)]


def put(whole: Any, kept: Indices, part: Any) -> Any:
    """A leaf with a part of it replaced, on the device if the part is there."""
    grid = _grid(whole.shape, kept)
    if isinstance(part, jax.Array):
        return jax.numpy.asarray(whole, part.dtype).at[grid].set(part)
    found = np.array(whole)
    found[grid] = part
    return found


def zeroed(leaf: Any, kept: Indices) -> Any:
    """A leaf with zeros in all that is cut."""
    zeros = leaf * 0
    return put(zeros, kept, cut(leaf, kept))


def added(leaf: Any, delta: np.ndarray) -> Any:
    """A leaf plus something in float64, rounded once."""
    total = np.asarray(np.asarray(leaf, np.float64) + delta).astype(leaf.dtype)
    return jax.numpy.asarray(total) if isinstance(leaf, jax.Array) else total


def _grid(shape: Sequence[int], kept: Indices) -> tuple[np.ndarray, ...]:
    places = [
        np.arange(size) if own is None else own
        for size, own in zip(shape, kept, strict=True)
    ]
    return np.ix_(*places)
