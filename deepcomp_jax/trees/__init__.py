"""Pytrees: the names of their leaves, and their containers as a file keeps them."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, GetAttrKey, KeyPath, SequenceKey

from deepcomp_jax._errors import listed
from deepcomp_jax._types import Structure
from deepcomp_jax.trees import mixed_keys


def named_leaves(tree: Any) -> dict[str, Any]:
    """Maps the name of each leaf to the leaf, in the order of `jax.tree.leaves`.

    A name is the path of keys joined by "/", such as `"params/conv1_1/kernel"`. Indices
    are decimal. Keys of a type derived from a number or a string, such as booleans and
    members of an enumeration, are named as what they equal. Flax NNX wraps each array
    in a variable whose only attribute, `value`, is left out of the name, so that a
    model has the same names in Linen and in NNX. Arrays in a foreign byte order are
    copied to that of this machine.

    Args:
        tree: Any pytree.

    Raises:
        ValueError: Two leaves have one name, as in `{"a/b": x, "a": {"b": y}}`.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(
        mixed_keys.sortable(tree), lambda node: node is None
    )
    children: dict[KeyPath, set[Any]] = {}
    for path, _ in flat:
        for depth, key in enumerate(path):
            children.setdefault(path[:depth], set()).add(key)
    named: dict[str, Any] = {}
    for path, leaf in flat:
        if leaf is None:
            continue
        keys = (
            key
            for depth, key in enumerate(path)
            if not _is_variable(children[path[:depth]])
        )
        name = "/".join(str(mixed_keys.normal(key)) for key in keys)
        if name in named:
            raise ValueError(
                f"two leaves are named {name!r}: rename a key that contains '/' or "
                "equals another one as text"
            )
        named[name] = _native(leaf)
    return named


def _native(leaf: Any) -> Any:
    """A leaf in the byte order of this machine, since JAX takes no other."""
    if isinstance(leaf, np.ndarray) and not leaf.dtype.isnative:
        return leaf.astype(leaf.dtype.newbyteorder("="))
    return leaf


def names(treedef: Any) -> list[str]:
    """The names of the leaves of a tree, from its structure alone."""
    leaves = range(treedef.num_leaves)
    return list(named_leaves(jax.tree.unflatten(treedef, leaves)))


def treedef(tree: Any) -> Any:
    """The structure of a pytree as JAX sees it, even if JAX cannot sort its keys."""
    return jax.tree.structure(mixed_keys.sortable(tree))


def rebuild(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """Replaces every leaf of `tree` by the one of the same name in `leaves`."""
    structure = treedef(tree)
    return jax.tree.unflatten(structure, [leaves[name] for name in names(structure)])


def widened(array: jax.Array) -> jax.Array:
    """An array in float32 at least, since JAX does not promote float8 by itself."""
    return array.astype(jnp.float32) if array.dtype.itemsize < 4 else array


def is_narrowed(dtype: np.dtype) -> bool:
    """Whether JAX would cut values of a dtype to 32 bits."""
    return jax.dtypes.canonicalize_dtype(dtype) != dtype


def contents(leaf: np.ndarray) -> object:
    """A key that differs, all but surely, for leaves that differ."""
    raw = np.ascontiguousarray(leaf).ravel().view(np.uint8).data
    return leaf.shape, leaf.dtype, zlib.crc32(raw), zlib.adler32(raw)


def check_weights(name: str, leaf: Any) -> Any:
    """Returns the leaf if it can be pruned and shared.

    Raises:
        ValueError: The leaf is not of a floating type that JAX computes with, or it
            holds NaN or infinity. The message says what to do.
    """
    dtype = np.dtype(getattr(leaf, "dtype", type(leaf)))
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"leaf {name!r} is {dtype}: only floating types can be pruned or shared; "
            "leave it out by a rule"
        )
    if is_narrowed(dtype):
        raise ValueError(
            f"leaf {name!r} is {dtype}, which JAX would cut to 32 bits: set "
            "jax_enable_x64, convert the leaf, or leave it out by a rule"
        )
    if not _all_finite(leaf):
        raise ValueError(
            f"leaf {name!r} holds NaN or infinity: weights must be finite to be "
            "pruned or shared; repair the training, or leave it out by a rule"
        )
    return leaf


def check_like(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Checks that the leaves of a file fit those of a tree that they are to replace.

    Args:
        expected: The leaves of the tree, by name.
        found: The shapes and dtypes of the leaves in the file, by name.

    Raises:
        ValueError: They differ in names, shapes or dtypes. The message says which
            leaves do.
    """
    problems = [f"{name}: not in the file" for name in expected if name not in found]
    problems += [f"{name}: only in the file" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        want, have = expected[name], found[name]
        weak = _is_weak(want)
        if not hasattr(want, "dtype"):
            want = np.asarray(want)
        same = want.dtype == have.dtype
        same = same or weak and _kind(want.dtype) == _kind(have.dtype)
        if want.shape != have.shape or not same:
            problems.append(
                f"{name}: {have.dtype}{list(have.shape)} in the file, "
                f"{want.dtype}{list(want.shape)} in `like`"
            )
    if problems:
        raise ValueError(
            "the file does not fit `like`:\n  " + listed(sorted(problems), "\n  ")
        )


def _is_weak(leaf: Any) -> bool:
    """Whether JAX gives a leaf the width of whatever it is combined with.

    JAX does so with numbers of Python, such as the step of a new training state, and
    with arrays computed from them alone, which the same leaf is after a compiled step.
    """
    return not hasattr(leaf, "dtype") or getattr(leaf, "weak_type", False)


def _kind(dtype: Any) -> Any:
    """What a dtype of numbers is apart from its width; any other is its own kind."""
    kinds = jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating
    return next((kind for kind in kinds if jnp.issubdtype(dtype, kind)), dtype)


def on_accelerator(array: jax.Array) -> bool:
    """Whether an array, which may not be traced, is in memory the host cannot read."""
    return any(device.platform != "cpu" for device in array.devices())


def _all_finite(leaf: Any) -> bool:
    """Whether no value is NaN or infinite.

    Arrays on an accelerator are checked there. All others are checked by NumPy, which
    unlike JAX compiles no program for each shape.
    """
    if isinstance(leaf, jax.Array) and on_accelerator(leaf):
        return bool(jnp.isfinite(leaf).all())
    return bool(np.isfinite(np.asarray(leaf)).all())


def structure(tree: Any) -> tuple[Structure, list[Any]]:
    """Takes a pytree apart into plain containers and leaves.

    Dictionaries, lists, tuples and None are kept as they are. Any other container (a
    Flax `FrozenDict` or NNX `State`, a named tuple, a dataclass) becomes a dictionary
    of its keys; to get it back, load into a `like` tree.

    Args:
        tree: Any pytree.

    Returns:
        The containers, in which each leaf is replaced by its index, and the leaves.

    Raises:
        ValueError: A key is neither a string nor a non-negative integer.
    """
    leaves: list[Any] = []

    def visit(node: Any) -> Structure:
        if node is None:
            return None
        children, is_leaf = _children(node)
        if is_leaf:
            leaves.append(node)
            return len(leaves) - 1
        if _is_variable({key for key, _ in children}):
            return visit(children[0][1])
        if type(node) is list:
            return [visit(child) for _, child in children]
        if type(node) is tuple:
            return tuple(visit(child) for _, child in children)
        keyed = [(mixed_keys.plain(key), child) for key, child in children]
        keyed.sort(key=lambda item: mixed_keys.rank(item[0]))
        return {key: visit(child) for key, child in keyed}

    return visit(tree), leaves


def _children(node: Any) -> tuple[list[tuple[Any, Any]], bool]:
    """The children one level down with their keys, and whether `node` is a leaf."""
    if isinstance(node, dict):
        return [(DictKey(key), child) for key, child in node.items()], False
    if type(node) in (list, tuple):
        return [(SequenceKey(i), child) for i, child in enumerate(node)], False
    flat, _ = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda child: child is not node
    )
    is_leaf = len(flat) == 1 and flat[0][0] == ()
    return [(path[0], child) for path, child in flat if path], is_leaf


def _is_variable(keys: set[Any]) -> bool:
    """Whether a container with these keys is a variable of NNX."""
    return keys == {GetAttrKey("value")}
