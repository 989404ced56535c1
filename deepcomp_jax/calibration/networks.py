"""A function of pytrees as one of lists of arrays, whose names are known."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from deepcomp_jax import trees

# Takes leaves and the arrays of a batch; returns the arrays that come out.
Flat = Callable[[list[Any], list[Any]], list[Any]]


class Network(NamedTuple):
    """A function of a pytree and a batch, as one of lists of arrays.

    Attributes:
        fn: The function.
        params: The pytree.
        names: The names of its leaves.
        leaves: Its leaves, as arrays of JAX.
    """

    fn: Callable[[Any, Any], Any]
    params: Any
    names: list[str]
    leaves: list[Any]

    def flat(self, structure: Any) -> Flat:
        """The function of leaves and of the arrays of a batch of some structure."""

        def fn(leaves: list[Any], arrays: list[Any]) -> list[Any]:
            named = dict(zip(self.names, leaves, strict=True))
            batch = jax.tree.unflatten(structure, arrays)
            return jax.tree.leaves(self.fn(trees.rebuild(self.params, named), batch))

        return fn


def network(fn: Callable[[Any, Any], Any], params: Any) -> Network:
    """Takes a pytree apart.

    Raises:
        ValueError: A leaf is no array.
        TypeError: `fn` is no function.
    """
    if not callable(fn):
        raise TypeError(
            f"`fn` is {type(fn).__name__}: give the function first, then the "
            "parameters, then what it is called with"
        )
    named = trees.named_leaves(params)
    leaves = [_array(leaf, f"leaf {name!r}") for name, leaf in named.items()]
    return Network(fn, params, list(named), leaves)


def _array(value: Any, what: str) -> Any:
    try:
        return jnp.asarray(value)
    except TypeError:
        raise ValueError(
            f"{what} is {type(value).__name__}: `fn` takes pytrees of arrays; let it "
            "close over all else"
        ) from None


def arrays_of(batch: Any) -> tuple[list[Any], Any]:
    """The arrays of a batch, and its structure.

    Raises:
        ValueError: There is something else in it.
    """
    found, structure = jax.tree.flatten(batch)
    return [_array(value, "an array of a batch") for value in found], structure
