"""Weight sharing over a pytree: groups, codebooks, labels, and the way back.

A weight that is zero stays exactly zero. Every other weight of a group is replaced by
the nearest entry of the group's codebook, which a sharing method finds. (Han et al.
2016, arXiv 1510.00149, section 3.)
"""

from deepcomp_jax.share.labels import assign as assign
from deepcomp_jax.share.methods import distinct as distinct
from deepcomp_jax.share.methods import kmeans as kmeans
from deepcomp_jax.share.methods import lloyd as lloyd
from deepcomp_jax.share.methods import nonparametric as nonparametric
from deepcomp_jax.share.methods import uniform as uniform
from deepcomp_jax.share.scaling import scaled as scaled
from deepcomp_jax.share.weights import SharedWeights as SharedWeights
from deepcomp_jax.share.weights import cast_codebooks as cast_codebooks
from deepcomp_jax.share.weights import lookup as lookup
from deepcomp_jax.share.weights import replace_codebooks as replace_codebooks
from deepcomp_jax.share.weights import share as share
