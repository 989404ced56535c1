"""The verbs: from a network to a compressed one, to a file, and back."""

from deepcomp_jax.api.compression import compress as compress
from deepcomp_jax.api.compression import decompress as decompress
from deepcomp_jax.api.compression import default_rules as default_rules
from deepcomp_jax.api.compression import pack as pack
from deepcomp_jax.api.files import dumps as dumps
from deepcomp_jax.api.files import load as load
from deepcomp_jax.api.files import loads as loads
from deepcomp_jax.api.files import report as report
from deepcomp_jax.api.files import save as save
from deepcomp_jax.api.opened import File as File
from deepcomp_jax.api.opened import Leaf as Leaf
from deepcomp_jax.api.opened import open as open
from deepcomp_jax.api.streaming import write as write
