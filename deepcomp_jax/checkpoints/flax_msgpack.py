"""Files of `flax.serialization`, read and written a tensor at a time.

    array = extension 1: [shape, name of the dtype, values]       scalars: extension 3
    large = {"__msgpack_chunked_array__": True, "shape": {...}, "chunks": {...}}

The libraries of MessagePack read an array whole to know where it ends; here, values are
skipped. (https://github.com/msgpack/msgpack/blob/master/spec.md)
"""

from deepcomp_jax.checkpoints.msgpack_reading import read as read
from deepcomp_jax.checkpoints.msgpack_writing import write as write
