"""The same function with fewer numbers: units that do nothing are cut.

`exact` finds in the operations of any JAX function which axes of leaves belong together
and cuts the units that cannot change a result. `prune_units` makes such units, at a
given loss of importance, of `groups`.
"""

from deepcomp_jax.shrink.exactly import Shrunk as Shrunk
from deepcomp_jax.shrink.exactly import exact as exact
from deepcomp_jax.shrink.grouping import Group as Group
from deepcomp_jax.shrink.grouping import Note as Note
from deepcomp_jax.shrink.grouping import Part as Part
from deepcomp_jax.shrink.pruning import groups as groups
from deepcomp_jax.shrink.pruning import prune_units as prune_units
