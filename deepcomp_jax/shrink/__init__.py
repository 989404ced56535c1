"""The same function with fewer numbers: units that do nothing are cut.

`exact` finds in the operations of any JAX function which axes of leaves belong together
and cuts the units that cannot change a result. `prune_units` makes such units, at a
given loss of importance, of `groups`.
"""

from deepcomp_jax.shrink.exactly import Shrunk, exact
from deepcomp_jax.shrink.grouping import Group, Note, Part
from deepcomp_jax.shrink.pruning import groups, prune_units

__all__ = (
    "Group",
    "Note",
    "Part",
    "Shrunk",
    "exact",
    "groups",
    "prune_units",
)
