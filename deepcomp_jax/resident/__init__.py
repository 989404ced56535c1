"""Networks that stay coded in the memory of a device, and are decoded as they run.

    resident = dc.open(path).on_device()      coded leaves, a pytree
    embed = resident.apply(fn)                fn(params, *args) becomes embed(*args)
    decoding(fn)                              the same as a function of coded leaves

A leaf is decoded just before the equation of the jaxpr that reads it and dropped after;
of a stack under `scan` one layer at a time, of a table of embeddings only the rows that
are looked up. How many examples a batch has makes no difference to what is decoded.
"""

from deepcomp_jax.resident.evaluation import decoding
from deepcomp_jax.resident.leaf import ResidentLeaf
from deepcomp_jax.resident.leaves import CodedLeaf, PlainLeaf
from deepcomp_jax.resident.network import Resident

__all__ = (
    "CodedLeaf",
    "PlainLeaf",
    "Resident",
    "ResidentLeaf",
    "decoding",
)
