"""The containers of a network: the names of its leaves, and how they are filled."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deepcomp_jax._types import Structure
from deepcomp_jax.format.fields import Problem

MAX_NAME_BYTES = 1024  # of a string and of a path: bounds what prefixes expand to (C10)

_MISSING = object()


def leaf_names(structure: Structure) -> tuple[list[str], Problem | None]:
    """The path of each leaf in tree order, and what is wrong with the paths, if any."""
    names: dict[str, None] = {}
    for path, node in _walk(structure, None):
        if len(path.encode()) > MAX_NAME_BYTES:
            text = f"the path {path[:40]!r}... has more than {MAX_NAME_BYTES} bytes"
            return list(names), Problem("C19", text)
        if isinstance(node, int):
            if path in names:
                return list(names), Problem("C18", f"two leaves are named {path!r}")
            names[path] = None
    return list(names), None


def _walk(node: Structure, path: str | None) -> Iterator[tuple[str, Structure]]:
    """Every node with its path, containers before their contents."""
    yield path or "", node
    if node is None or isinstance(node, int):
        return
    for key, child in children(node):
        yield from _walk(child, str(key) if path is None else f"{path}/{key}")


def children(
    node: "dict[str | int, Structure] | list[Structure] | tuple[Structure, ...]",
) -> list[tuple[str | int, Structure]]:
    """What a container holds, in tree order."""
    return sorted_items(node) if isinstance(node, dict) else list(enumerate(node))


def sorted_items(
    node: dict[str | int, Structure],
) -> list[tuple[str | int, Structure]]:
    """What a dictionary holds, in tree order: integers first.

    Raises:
        ValueError: A key is neither a string nor an integer from 0 to 2**62 - 1.
    """
    for key in node:
        is_number = type(key) is int and 0 <= key < 1 << 62
        if not isinstance(key, str) and not is_number:
            raise ValueError(
                f"key {key!r} is neither a string nor an integer from 0 to 2**62 - 1: "
                "rename it"
            )
    # Code points sort as their UTF-8 bytes do.
    return sorted(node.items(), key=lambda item: (isinstance(item[0], str), item[0]))


def fill(structure: Structure, leaves: Sequence[Any] | Mapping[int, Any]) -> Any:
    """The containers of a network, with leaves in place of their numbers.

    Args:
        structure: The containers.
        leaves: All of them in tree order, or some by number. Of the containers those
            are left then that hold any; in lists and tuples, None is in place of what
            is missing.
    """
    partial = isinstance(leaves, Mapping) and len(leaves) < _count(structure)

    def visit(node: Structure) -> Any:
        if node is None:
            return _MISSING if partial else None
        if isinstance(node, int):
            return leaves[node] if not partial or node in leaves else _MISSING
        if isinstance(node, dict):
            found = {key: visit(child) for key, child in node.items()}
            kept = {key: own for key, own in found.items() if own is not _MISSING}
            return kept if kept or not partial else _MISSING
        found = [visit(child) for child in node]
        if partial and all(own is _MISSING for own in found):
            return _MISSING
        return type(node)(None if own is _MISSING else own for own in found)

    return visit(structure)


def _count(node: Structure) -> int:
    """How many leaves there are."""
    if node is None or isinstance(node, int):
        return int(node is not None)
    return sum(map(_count, node.values() if isinstance(node, dict) else node))
