"""The best network in a number of bytes, and the smallest file within an error.

`plan` looks at each weight once and gives rules, whose file has about the bytes that
were asked for. `within_bytes` and `within_error` look at the files themselves.
"""

from deepcomp_jax.budget.looks import Point
from deepcomp_jax.budget.plans import plan
from deepcomp_jax.budget.search import curve, point, within_bytes, within_error

__all__ = ("Point", "curve", "plan", "point", "within_bytes", "within_error")
