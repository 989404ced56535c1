"""One-dimensional clustering of weights: codebooks of least squared error.

`optimal` finds the best codebook of a given size, `nonparametric` and
`by_explained_variance` choose the size as well, and `lloyd` descends from one of the
three starts that the paper compares. All are deterministic, run on the host, and return
centroids in float64, strictly ascending, never more than there are distinct values.
"""

from deepcomp_jax.kmeans.codebooks import Path as Path
from deepcomp_jax.kmeans.codebooks import by_explained_variance as by_explained_variance
from deepcomp_jax.kmeans.codebooks import lloyd as lloyd
from deepcomp_jax.kmeans.codebooks import nonparametric as nonparametric
from deepcomp_jax.kmeans.codebooks import optimal as optimal
from deepcomp_jax.kmeans.codebooks import optimal_path as optimal_path
from deepcomp_jax.kmeans.codebooks import sse as sse
from deepcomp_jax.kmeans.dynamic_program import MAX_BINS as MAX_BINS
