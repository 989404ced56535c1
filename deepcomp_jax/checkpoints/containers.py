"""Names of the leaves in plain containers, which need no JAX to be walked through."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from deepcomp_jax.checkpoints.leaves import CheckpointError

_NUMBERS = (bool, int, float, complex)


def plain(tree: Any) -> Any:
    """A pytree in dictionaries, lists, tuples and None, with arrays for numbers.

    Args:
        tree: Any pytree, or a mapping from names to leaves. Containers that are not
            plain already become dictionaries, as in a `.dcz` file.

    Raises:
        ValueError: A key is neither a string nor a non-negative integer.
    """
    if isinstance(tree, Mapping) and not isinstance(tree, dict):
        tree = dict(tree)
    if not all(map(is_leaf, _ends(tree))):
        # Only the containers of libraries need JAX, which takes long to import.
        from deepcomp_jax import trees
        from deepcomp_jax.format import structures

        structure, leaves = trees.structure(tree)
        tree = structures.fill(structure, leaves)
    return map_leaves(lambda leaf: leaf if _has_shape(leaf) else np.asarray(leaf), tree)


def is_leaf(node: Any) -> bool:
    """Whether a node is an array, a number, or a leaf on the disk."""
    return _has_shape(node) or isinstance(node, _NUMBERS)


def _has_shape(node: Any) -> bool:
    return hasattr(node, "shape") and hasattr(node, "dtype")


def _ends(tree: Any) -> Iterator[Any]:
    """What is in plain containers."""
    if tree is None:
        return
    if type(tree) in (dict, list, tuple):
        for child in tree.values() if type(tree) is dict else tree:
            yield from _ends(child)
    else:
        yield tree


def map_leaves(change: Callable[[Any], Any], tree: Any) -> Any:
    """The same plain containers with every leaf changed."""
    if tree is None:
        return None
    if type(tree) is dict:
        return {key: map_leaves(change, child) for key, child in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(map_leaves(change, child) for child in tree)
    return change(tree)


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of plain containers by name: the path of keys, joined by "/".

    Raises:
        CheckpointError: Two leaves have one name, as in `{"a/b": x, "a": {"b": y}}`.
    """
    named: dict[str, Any] = {}
    for path, leaf in paths(tree):
        name = "/".join(map(str, path))
        if name in named:
            raise CheckpointError(f"two leaves are named {name!r}: rename a key")
        named[name] = leaf
    return named


def paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple, Any]]:
    """The keys that lead to each leaf of plain containers, and the leaf."""
    if tree is None:
        return
    if type(tree) is dict:
        for key, child in tree.items():
            yield from paths(child, (*path, key))
    elif type(tree) in (list, tuple):
        for key, child in enumerate(tree):
            yield from paths(child, (*path, key))
    else:
        yield path, tree


def kept(tree: Any, chosen: Callable[[str], bool]) -> Any:
    """The part of plain containers that holds the leaves of some names.

    Args:
        tree: The containers.
        chosen: Whether a leaf of a name is kept.

    Returns:
        The containers that hold any such leaf; lists and tuples of which some are
        left out are dictionaries of indices.
    """
    missing = object()

    def visit(node: Any, path: str | None) -> Any:
        if type(node) in (dict, list, tuple):
            items = node.items() if type(node) is dict else enumerate(node)
            found = {
                key: own
                for key, child in items
                if (own := visit(child, _joined(path, key))) is not missing
            }
            if not found:
                return missing
            whole = type(node) is not dict and len(found) == len(node)
            return type(node)(found.values()) if whole else found
        return node if node is not None and chosen(path or "") else missing

    found = visit(tree, None)
    return {} if found is missing else found


def _joined(path: str | None, key: Any) -> str:
    return str(key) if path is None else f"{path}/{key}"
