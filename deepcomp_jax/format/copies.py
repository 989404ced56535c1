"""Equal leaves, of which a file holds one: tied embeddings, untouched statistics.

A copy takes two or three bytes of the header, and every other leaf at least four. So a
leaf that equals one before it is always smaller as a copy.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from deepcomp_jax._types import DenseLeaf, SharedLeaf
from deepcomp_jax.format.file_header import Entry
from deepcomp_jax.format.leaf_header import Layout

T = TypeVar("T")
Leaf = tuple[Layout, bytes]


def find(
    leaves: Sequence[Leaf], codebooks: Sequence[np.ndarray]
) -> tuple[list[Leaf], list[np.ndarray]]:
    """Puts copies in place of the leaves that equal one before them.

    Equal are leaves of equal layouts, bodies and contents of their codebooks; as each
    leaf is looked up by its hash, all bytes are read once, and compared once.

    Args:
        leaves: Layout and body of each leaf.
        codebooks: In order of first use.

    Returns:
        The leaves, those that are copies with an empty body; and the codebooks of the
        others, in the order in which these use them first.
    """
    numbers: dict[tuple[np.dtype, bytes], int] = {}
    alike = [
        numbers.setdefault((codebook.dtype, codebook.tobytes()), number)
        for number, codebook in enumerate(codebooks)
    ]
    first: dict[Leaf, int] = {}
    originals = [
        first.setdefault((_renumbered(layout, alike), body), number)
        for number, (layout, body) in enumerate(leaves)
    ]
    kept = [leaf for i, leaf in enumerate(leaves) if originals[i] == i]
    used = dict.fromkeys(own.codebook for own, _ in kept if own.codebook is not None)
    order = {old: new for new, old in enumerate(used)}
    found: list[Leaf] = []
    for number, original in enumerate(originals):
        layout, body = leaves[original]
        layout = _renumbered(layout, order)
        if original < number:
            layout, body = layout._replace(copy_of=original), b""
        found.append((layout, body))
    return found, [codebooks[old] for old in used]


def _renumbered(layout: Layout, numbers: Sequence[int] | dict[int, int]) -> Layout:
    if layout.codebook is None:
        return layout
    return layout._replace(codebook=numbers[layout.codebook])


def read(
    leaves: Sequence[Entry], get: Callable[[Entry], T], copy: Callable[[T], T]
) -> list[T]:
    """Reads leaves, those that are copies from the ones that they name.

    Args:
        leaves: All of a file.
        get: Reads a leaf that is no copy.
        copy: Makes another of what that returns, in memory of its own.
    """
    found: list[T] = []
    for entry in leaves:
        original = entry.layout.copy_of
        found.append(get(entry) if original is None else copy(found[original]))
    return found


def original(entry: Entry, leaves: Sequence[Entry]) -> Entry:
    """The leaf that is stored for one, under its own name."""
    if entry.layout.copy_of is None:
        return entry
    return leaves[entry.layout.copy_of]._replace(name=entry.name)


def again(leaf: DenseLeaf | SharedLeaf) -> DenseLeaf | SharedLeaf:
    """The same leaf in memory of its own."""
    if isinstance(leaf, DenseLeaf):
        return DenseLeaf(leaf.values.copy())
    return leaf._replace(labels=leaf.labels.copy())
