"""What the leaves of a network meet: statistics of a few batches, for any JAX function.

`calibrate` finds the matrix products, convolutions and look-ups of a function in its
jaxpr, and sums up second moments of what leaves are multiplied with, and of the
derivatives of what comes out. That is what it takes to round weights so that the
outputs change least.
"""

from deepcomp_jax.calibration.calibrating import calibrate
from deepcomp_jax.calibration.floors import floored
from deepcomp_jax.calibration.moments import Use
from deepcomp_jax.calibration.random_inputs import random_like
from deepcomp_jax.calibration.record import Calibration, load

__all__ = ("Calibration", "Use", "calibrate", "floored", "load", "random_like")
