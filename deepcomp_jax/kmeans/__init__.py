"""One-dimensional clustering of weights: codebooks of least squared error.

`optimal` finds the best codebook of a given size, `nonparametric` and
`by_explained_variance` choose the size as well, and `lloyd` descends from one of the
three starts that the paper compares. All are deterministic, run on the host, and return
centroids in float64, strictly ascending, never more than there are distinct values.
"""

from deepcomp_jax.kmeans.codebooks import (
    Path,
    by_explained_variance,
    lloyd,
    nonparametric,
    optimal,
    optimal_path,
    sse,
)
from deepcomp_jax.kmeans.dynamic_program import MAX_BINS

__all__ = (
    "MAX_BINS",
    "Path",
    "by_explained_variance",
    "lloyd",
    "nonparametric",
    "optimal",
    "optimal_path",
    "sse",
)
