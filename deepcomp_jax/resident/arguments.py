"""What a compiled function is called with: arrays, and what is none."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax


class Rest(NamedTuple):
    """All of some arguments but their arrays.

    Attributes:
        structure: The containers.
        others: The leaves that are no arrays, each with its place among all.
    """

    structure: Any
    others: tuple[tuple[int, Any], ...]


def split(args: Any) -> tuple[list[Any], Rest]:
    """Takes arguments apart into arrays and the rest, which `joined` undoes.

    Numbers count as arrays, as for `jax.jit`. Booleans of Python, strings, functions,
    and all else are the rest: what code would branch on.

    Args:
        args: A pytree.
    """
    leaves, structure = jax.tree.flatten(args)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    others = [(i, leaf) for i, leaf in enumerate(leaves) if not _is_array(leaf)]
    return arrays, Rest(structure, tuple(others))


def joined(arrays: Sequence[Any], rest: Rest) -> Any:
    """The arguments again, of arrays that may have been traced."""
    leaves = list(arrays)
    for place, other in rest.others:
        leaves.insert(place, other)
    return jax.tree.unflatten(rest.structure, leaves)


def _is_array(leaf: Any) -> bool:
    # A type such as `jnp.bfloat16` has a dtype too.
    if isinstance(leaf, (bool, type)):
        return False
    return isinstance(leaf, (int, float, complex)) or hasattr(leaf, "dtype")
