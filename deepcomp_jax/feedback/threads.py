"""Leaves worked on side by side, and how far that is."""

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from deepcomp_jax import _threads
from deepcomp_jax._types import Progress

T = TypeVar("T")


def each(
    work: Callable[[str], T],
    leaves: Mapping[str, np.ndarray],
    progress: Progress | None = None,
    most: int | None = None,
) -> dict[str, T]:
    """What is made of each leaf, by its name.

    Args:
        work: Takes the name of a leaf.
        leaves: By name.
        progress: Is told of each leaf that is done, of which nothing is written yet.
        most: The most threads; by default as many as there are cores.
    """

    def size(name: str) -> int:
        return leaves[name].size

    found: dict[str, T] = {}
    read = 0
    with contextlib.closing(
        _threads.in_turn(work, list(leaves), size, most)
    ) as in_turn:
        for name, own in zip(leaves, in_turn, strict=True):
            found[name], read = own, read + leaves[name].nbytes
            if progress is not None:
                progress(len(found), len(leaves), read, 0)
    return found
