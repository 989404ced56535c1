"""Keys of pytrees as a file stores them, and dictionaries that JAX cannot sort."""

import operator
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, SequenceKey


def _key(key: Any) -> Any:
    if isinstance(key, (DictKey, FlattenedIndexKey)):
        return key.key
    if isinstance(key, SequenceKey):
        return key.idx
    return key.name


def normal(key: Any) -> Any:
    """A key of a path, as a plain string or integer if it equals one."""
    value = _key(key)
    if isinstance(value, str):
        return str.__str__(value)  # turns a member of an enumeration into its value
    try:
        return operator.index(value)
    except TypeError:
        return value


def rank(key: str | int) -> tuple[bool, str | int]:
    """What a file sorts keys by, so that integers come before strings."""
    return isinstance(key, str), key


def plain(key: Any) -> str | int:
    """A key of a path as a file stores it.

    Raises:
        ValueError: The key is neither a string nor a non-negative integer.
    """
    value = normal(key)
    if not isinstance(value, (str, int)) or isinstance(value, int) and value < 0:
        raise ValueError(
            f"key {_key(key)!r} is neither a string nor a non-negative integer: "
            "rename it before compressing"
        )
    return value


class _Mixed(NamedTuple):
    """A dictionary whose keys Python cannot sort, wrapped as a pytree node for JAX."""

    content: dict[Any, Any]


class _Kind(NamedTuple):
    """What it takes to make the dictionary again from its children."""

    of: type
    factory: Any  # of a `defaultdict`, and else None
    keys: tuple[Any, ...]


def _flatten(mixed: _Mixed) -> tuple[list[tuple[Any, Any]], _Kind]:
    content = mixed.content
    keys = sorted(content, key=lambda key: rank(plain(DictKey(key))))
    factory = getattr(content, "default_factory", None)
    kind = _Kind(type(content), factory, tuple(keys))
    return [(DictKey(key), content[key]) for key in keys], kind


def _unflatten(kind: _Kind, children: Iterable[Any]) -> Any:
    return _like(kind.of, kind.factory, zip(kind.keys, children, strict=True))


def _like(of: type, factory: Any, items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    return defaultdict(factory, items) if of is defaultdict else dict(items)


jax.tree_util.register_pytree_with_keys(_Mixed, _flatten, _unflatten)


def sortable(tree: Any) -> Any:
    """Makes a pytree that JAX can flatten, even if dictionaries mix types of keys.

    JAX sorts the keys of a dictionary, which fails where some are numbers and some are
    strings. Such dictionaries become nodes that sort numbers first, as files do, and
    that turn into dictionaries again as soon as JAX rebuilds them.

    Args:
        tree: Any pytree. It is returned as it is if JAX can flatten it.

    Raises:
        ValueError: A key of such a dictionary cannot be stored in a file.
    """
    try:
        jax.tree.structure(tree)
    except (TypeError, ValueError):
        return jax.tree.map(_sortable_keys, tree, is_leaf=_is_sorted_by_jax)
    return tree


def _is_sorted_by_jax(node: Any) -> bool:
    return type(node) in (dict, defaultdict)


def _sortable_keys(node: Any) -> Any:
    if not _is_sorted_by_jax(node):
        return node
    items = [(key, sortable(child)) for key, child in node.items()]
    content = _like(type(node), getattr(node, "default_factory", None), items)
    try:
        sorted(content)
    except TypeError:
        return _Mixed(content)
    return content
