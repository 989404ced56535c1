"""Compiled loops that code and decode, and the way of leaves to a device.

    put_on_cpu    symbols to the words of a rANS stream
    take_on_cpu   symbols from them
    to_device     values from the host to a device; `leaf_to_device`: a leaf that was
                  decoded, with its scales

Symbols of long rANS streams are coded and decoded by `jax.jit` on the CPU, many lanes
side by side (`rans_coding`, `rans_lanes`); NumPy does all the rest. A device receives
values that are finished: it takes no other memory, and compiles nothing. Of a leaf with
scales it receives the entries, and multiplies them in their memory, by a program for
each shape.
"""

from deepcomp_jax.device.leaves import leaf_to_device as leaf_to_device
from deepcomp_jax.device.leaves import to_device as to_device
from deepcomp_jax.device.rans_coding import put_on_cpu as put_on_cpu
from deepcomp_jax.device.rans_lanes import take_on_cpu as take_on_cpu
