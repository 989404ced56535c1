"""About how many bits labels take, without making them."""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.feedback.matrices import Matrices
from deepcomp_jax.feedback.preparing import Prepared
from deepcomp_jax.feedback.quantizing import octaves_of

_SAMPLE = 1 << 15  # weights of a leaf that are looked at
_EXPONENT = 3  # bits that one takes, about


def bits(prepared: Prepared, rd_lambda: float) -> float:
    """About what the leaves with steps take, with exponents.

    Labels are those of weights without feedback, whose errors spread them a little
    more; of large leaves some rows stand for all.

    Args:
        prepared: The network.
        rd_lambda: What a bit costs.
    """
    return sum(
        _bits(prepared.leaves[name], own, rd_lambda)
        for name, own in prepared.matrices.items()
    )


def _bits(leaf: np.ndarray, own: Matrices, rd_lambda: float) -> float:
    stacked = own.stack(leaf)
    count, m, n = stacked.shape
    each = max(1, count * m * n // _SAMPLE)
    labels: list[NDArray[np.int32]] = []
    for i, (rows, columns) in enumerate(own.sides):
        first, last = octaves_of(own, stacked, i, rd_lambda)
        some = slice(i % each, None, each) if m > each else slice(None)
        weights = stacked[i][np.ix_(rows.order[some], columns.order)]
        steps = np.exp2(first[some, None] + last).astype(np.float32)
        labels.append(np.rint(weights / steps).astype(np.int32).ravel())
    every = np.concatenate(labels)
    counts = np.bincount(every - every.min(initial=0))
    shares = counts[counts > 0] / max(every.size, 1)
    return leaf.size * -float(shares @ np.log2(shares)) + _EXPONENT * count * (m + n)
