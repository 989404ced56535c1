"""Which groups of the grouped coding share a table of indices."""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import symbol_models


def joined(
    counts: NDArray[np.int64], negatives: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Which groups share a table of indices.

    Args:
        counts: How often each entry is used in each group, int64[groups, entries].
        negatives: Entries below zero.

    Returns:
        The table of each group, uint8[groups], ascending; and how often each entry is
        used with each table, int64[tables, entries].
    """
    ends = _split(counts, negatives)
    chosen = np.zeros(len(counts), np.uint8)
    chosen[ends] = 1
    merged = np.add.reduceat(counts, [0, *ends], axis=0)
    return np.cumsum(chosen).astype(np.uint8), merged


def _split(counts: NDArray[np.int64], negatives: int) -> list[int]:
    """Where a new table pays, between rows of counts; each part has some counts."""
    if len(counts) < 2:
        return []
    sums = np.cumsum(counts, axis=0)
    total = symbol_models.fit(sums[-1:], negatives)[1][0]
    before, after = sums[:-1], sums[-1] - sums[:-1]
    possible = before.any(axis=1) & after.any(axis=1)
    if not possible.any():
        return []
    both = np.full(len(before), np.inf)
    parts = [
        symbol_models.fit(part[possible], negatives)[1] for part in (before, after)
    ]
    both[possible] = parts[0] + parts[1]
    at = int(both.argmin())
    if both[at] >= total:
        return []
    low, high = counts[: at + 1], counts[at + 1 :]
    return [
        *_split(low, negatives),
        at + 1,
        *(at + 1 + end for end in _split(high, negatives)),
    ]
