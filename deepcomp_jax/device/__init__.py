"""Leaves coded with compiled loops, and decoded with them onto a device.

    encode    a whole leaf, from its labels to the body in the file
    values    a whole leaf, from the body in the file to its values on the device

Symbols of long rANS streams are coded and decoded by `jax.jit` on the CPU, many lanes
side by side (`rans_coding`, `rans_lanes`); NumPy does all the rest. A device receives
values that are finished: it takes no other memory, and compiles nothing.
"""

from deepcomp_jax.device.leaves import encode as encode
from deepcomp_jax.device.leaves import values as values
