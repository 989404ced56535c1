"""Folders of Orbax, read and written a tensor at a time by TensorStore.

    _METADATA               JSON: the keys of each leaf, and how arrays are stored
    manifest.ocdbt, d       the arrays, in one key-value store
    _CHECKPOINT_METADATA    JSON: what made it, and the strings that came with it

Orbax itself reads and writes all leaves at once; TensorStore, on which it is built,
opens and reads one, or a part of one. The tests compare with Orbax. A checkpoint of
several items, such as the state and the data of a run, is a dictionary of them; of a
checkpoint with containers of Python, tuples are lists and objects are dictionaries, as
Orbax itself says.
"""

from deepcomp_jax.checkpoints.orbax_reading import read as read
from deepcomp_jax.checkpoints.orbax_writing import write as write
