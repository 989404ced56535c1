"""A network on grids, with steps that are relative or follow from importance."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import api
from deepcomp_jax._types import Compressed
from deepcomp_jax.budget.plans import stored_bytes
from deepcomp_jax.rate import grids, planning, quantization
from deepcomp_jax.rate.planning import PlannedLeaf
from deepcomp_jax.rules import Rule
from deepcomp_jax.rules.weights import find_weights, normalized_lengths


class Grids(NamedTuple):
    """A network on grids, see `search.Search`.

    Attributes:
        problem: The network, as `rate.quantize` sees it.
        rules: For the codings that they ask for.
        leaves: Those that are quantized and not all zero.
        ends: Logarithms of relative steps: at the first each grid is as fine as it can
            be, at the second hardly a weight is worth its bits.
    """

    problem: quantization.Problem
    rules: Sequence[Rule]
    leaves: dict[str, PlannedLeaf]
    ends: tuple[float, float]

    @property
    def values(self) -> int:
        """How many values are quantized."""
        return sum(leaf.histogram.size for leaf in self.leaves.values())

    def compressed(self, log_step: float) -> Compressed:
        """The network at one relative step."""
        rd_lambda = grids.lambda_for_step(math.exp(log_step), 1.0)
        return api.pack(quantization.solve(self.problem, rd_lambda), self.rules)

    def bits(self, log_step: float) -> float:
        """About what the leaves take at one relative step."""
        some = planning.sample(list(self.leaves.values()))
        return planning.total_bits(some, math.exp(log_step))

    def stored_bits(self) -> float:
        """What the leaves take that are not quantized."""
        return 8 * sum(
            stored_bytes(name, np.asarray(leaf))
            for name, leaf in self.problem.named.items()
            if name not in self.problem.methods
        )


def on_grids(variables: Any, rules: Sequence[Rule] | None, importance: Any) -> Grids:
    """Looks at a network once; arguments as for `rate.quantize`."""
    problem = quantization.problem(variables, rules, importance)
    tables = find_weights(variables)
    lengths = normalized_lengths(variables)
    leaves: dict[str, PlannedLeaf] = {}
    ends: list[tuple[float, float]] = []
    for name in problem.methods:
        own = np.asarray(problem.named[name])
        with_scales = importance is None and problem.methods[name] is None
        known = planning.planned(
            own, tables.get(name, False), lengths if with_scales else None
        )
        if not known.unit:
            continue
        spread = 1.0  # of importance within the leaf
        if problem.importance is not None:
            costs = problem.importance[name]
            mean = float(costs.mean(dtype=np.float64))
            known, spread = known._replace(unit=mean**-0.5), float(costs.max()) / mean
        leaves[name] = known
        # An outlier may be all that there is of the magnitude.
        least = known.histogram.magnitude() / grids.MAX_ENTRIES / 64
        most = 4 * float(np.abs(known.histogram.values[[0, -1]]).max())
        unit = math.log(known.unit)
        ends.append((math.log(least) - unit, math.log(most * spread**0.5) - unit))
    if importance is None:
        problem = problem._replace(relative=leaves)
    low = min((own[0] for own in ends), default=0.0)
    high = max((own[1] for own in ends), default=low)
    return Grids(problem, rules or (), leaves, (low, high))
