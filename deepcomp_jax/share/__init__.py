"""Weight sharing over a pytree: groups, codebooks, labels, and the way back.

A weight that is zero stays exactly zero. Every other weight of a group is replaced by
the nearest entry of the group's codebook, which a sharing method finds. (Han et al.
2016, arXiv 1510.00149, section 3.)
"""

from deepcomp_jax.share.labels import assign
from deepcomp_jax.share.methods import distinct, kmeans, lloyd, nonparametric, uniform
from deepcomp_jax.share.scaling import scaled
from deepcomp_jax.share.weights import (
    SharedWeights,
    cast_codebooks,
    lookup,
    replace_codebooks,
    share,
)

__all__ = (
    "SharedWeights",
    "assign",
    "cast_codebooks",
    "distinct",
    "kmeans",
    "lloyd",
    "lookup",
    "nonparametric",
    "replace_codebooks",
    "scaled",
    "share",
    "uniform",
)
