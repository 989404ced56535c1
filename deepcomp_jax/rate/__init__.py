"""Rate-distortion quantization: labels that are cheap to code and cost little quality.

The nearest entry of a codebook is the best label only if all labels cost the same.
They do not: a frequent entry takes two bits, a rare one seven, and a weight that
becomes zero gives back the bits of its position. Here each weight gets the label that
makes

    importance * (weight - value)**2 + lambda * bits

least, where bits follow from how often these very labels occur; counts and labels are
found in turns. (Entropy-constrained quantization: Chou, Lookabaugh and
Gray 1989; for networks, Choi, El-Khamy and Lee, arXiv 1612.01543, and Wiedemann et al.,
arXiv 1907.11900.)
"""

from deepcomp_jax.rate.grids import grid, grid_for_lambda, lambda_for_step, multiples
from deepcomp_jax.rate.importance import fisher_diagonal
from deepcomp_jax.rate.quantization import quantize, rdoq

__all__ = (
    "fisher_diagonal",
    "grid",
    "grid_for_lambda",
    "lambda_for_step",
    "multiples",
    "quantize",
    "rdoq",
)
