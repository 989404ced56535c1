"""The best network in a number of bytes, and the smallest file within an error.

`plan` looks at each weight once and gives rules, whose file has about the bytes that
were asked for. `within_bytes` and `within_error` look at the files themselves.
"""

from deepcomp_jax.budget.looks import Point as Point
from deepcomp_jax.budget.plans import plan as plan
from deepcomp_jax.budget.search import curve as curve
from deepcomp_jax.budget.search import point as point
from deepcomp_jax.budget.search import within_bytes as within_bytes
from deepcomp_jax.budget.search import within_error as within_error
