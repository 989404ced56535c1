"""What labels would cost in the grouped coding, before they are chosen."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import group_search, grouping
from deepcomp_jax.codings.common import Leaf


class Prices(NamedTuple):
    """What labels cost at n positions, in bits.

    Attributes:
        pruned: Price of a pruned weight, float32[n].
        kept: Price of the position of a kept weight, float32[n].
        table: Number of the table that prices the index of each, int[n].
        indices: Price of each index, float32[tables, entries].
    """

    pruned: NDArray[np.float32]
    kept: NDArray[np.float32]
    table: NDArray[np.integer]
    indices: NDArray[np.float32]


def prices(labels: NDArray[np.integer], leaf: Leaf, *, at: NDArray[np.int64]) -> Prices:
    """What labels cost under the models that this coding would have for them.

    Args:
        labels: All labels of the leaf, int[size].
        leaf: The leaf of the labels.
        at: For which positions, int64[n].
    """
    positions = np.flatnonzero(labels)
    groups = grouping.groups(leaf.shape, group_search.classes(labels, leaf.shape))
    member, group = grouping.members(positions, groups), grouping.members(at, groups)
    kept = np.bincount(member, minlength=groups.sizes.size)
    density = (kept + 0.5) / (groups.sizes + 1.0)
    indices = labels[positions] - 1
    tables, counts = group_search.tables(member, indices, groups.sizes.size, leaf)
    smooth = counts + 0.1
    share = smooth / smooth.sum(axis=1, keepdims=True)
    return Prices(
        -np.log2(1 - density)[group].astype(np.float32),
        -np.log2(density)[group].astype(np.float32),
        tables[group],
        -np.log2(share).astype(np.float32),
    )
