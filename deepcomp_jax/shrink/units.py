"""The units of spaces: which are kept, flagged, and where they are on an axis."""

from typing import TypeAlias

import numpy as np

from deepcomp_jax.shrink.spaces import Space, Spaces, Sum, inner

Kept: TypeAlias = dict[int, np.ndarray]  # bool[size] of spaces that are not divided


def mask(spaces: Spaces, space: Space, kept: Kept) -> np.ndarray:
    """bool[size]: which units of a space are kept if those of others are."""
    space = spaces.resolve(space)
    if isinstance(space, int):
        return kept.get(space, np.ones(spaces.sizes[space], bool))
    if isinstance(space, Sum):
        return np.concatenate([mask(spaces, part, kept) for part in space.parts])
    found = np.ones(1, bool)
    for factor in space.factors:
        found = (found[:, None] & mask(spaces, factor, kept)[None, :]).ravel()
    return found


def project(spaces: Spaces, space: Space, flags: np.ndarray) -> dict[int, np.ndarray]:
    """For each undivided space in one, which of its units have a flag anywhere.

    Args:
        spaces: All spaces.
        space: One of them.
        flags: bool[size].
    """
    space = spaces.resolve(space)
    if isinstance(space, int):
        return {space: flags}
    sizes = [spaces.size(part) for part in inner(space)]
    if isinstance(space, Sum):
        own = np.split(flags, np.cumsum(sizes)[:-1])
    else:
        axes = range(len(sizes))
        others = [tuple(j for j in axes if j != i) for i in axes]
        own = [np.asarray(flags.reshape(sizes).any(axis=i)) for i in others]
    found: dict[int, np.ndarray] = {}
    for part, its in zip(inner(space), own, strict=True):
        for atom, own_flags in project(spaces, part, its).items():
            before = found.get(atom)
            found[atom] = own_flags if before is None else before | own_flags
    return found


def places(spaces: Spaces, space: Space, atom: int) -> np.ndarray:
    """int[size]: to which unit of one space each unit belongs, -1 if to none."""
    space = spaces.resolve(space)
    if isinstance(space, int):
        size = spaces.sizes[space]
        return np.arange(size) if space == atom else np.full(size, -1)
    each = [places(spaces, part, atom) for part in inner(space)]
    if isinstance(space, Sum):
        return np.concatenate(each)
    found = np.full(1, -1)
    for own in each:
        found = np.maximum(found[:, None], own[None, :]).ravel()
    return found
