"""Leaves worked on side by side, and how far that is."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

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
    cores = os.cpu_count() or 1
    # The longest first, so that no thread is left with one of them at the end.
    names = sorted(leaves, key=lambda name: -leaves[name].size)
    found: dict[str, T] = {}
    read = 0
    with ThreadPoolExecutor(min(cores, most or cores)) as pool:
        try:
            for name, own in zip(names, pool.map(work, names), strict=True):
                found[name], read = own, read + leaves[name].nbytes
                if progress is not None:
                    progress(len(found), len(names), read, 0)
        finally:
            pool.shutdown(cancel_futures=True)
    return {name: found[name] for name in leaves}
