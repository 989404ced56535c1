"""Leaves decoded with compiled loops, and put on a device.

    values    a whole leaf, from the body in the file to its values on the device

Symbols of long rANS streams are decoded by `jax.jit` on the CPU, many lanes side by
side; NumPy does all the rest. A device receives values that are finished: it takes no
other memory, and compiles nothing.
"""

from deepcomp_jax.device.leaves import values as values
