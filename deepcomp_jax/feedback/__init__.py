"""Rounds the weights of a trained network so that its outputs change least.

Statistics of what each leaf is multiplied with (`calibration`) say how much an error of
each weight matters, and which other weights can make up for it.
"""

from deepcomp_jax.feedback.estimating import bits as bits
from deepcomp_jax.feedback.preparing import Prepared as Prepared
from deepcomp_jax.feedback.preparing import prepare as prepare
from deepcomp_jax.feedback.quantizing import on_steps as on_steps
from deepcomp_jax.feedback.quantizing import quantize as quantize
