"""What is decoded with compiled loops, and put on a device.

    take_on_cpu   symbols of a rANS stream, from its words
    put           a leaf that was decoded, from the host to the device

Symbols of long rANS streams are decoded by `jax.jit` on the CPU, many lanes side by
side; NumPy does all the rest. A device receives values that are finished: it takes no
other memory, and compiles nothing.
"""

from deepcomp_jax.device.leaves import put as put
from deepcomp_jax.device.rans_lanes import take_on_cpu as take_on_cpu
