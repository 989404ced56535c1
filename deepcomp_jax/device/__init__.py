"""Streams decoded on the device: all lanes side by side, under `jax.jit`.

    decode    a Huffman stream, as `huffman.decode` does on the host
    values    a whole leaf, from the body in the file to its values

The host reads what is small: numbers, models, where lanes begin. Words are decoded,
gaps added up and values put in their places on the device. Small leaves are decoded by
NumPy, and sizes are rounded up, so that streams of about one size share a program.
"""

from deepcomp_jax.device.huffman_lanes import decode as decode
from deepcomp_jax.device.leaves import values as values
