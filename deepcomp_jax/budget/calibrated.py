"""A calibrated network at any price of a bit."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepcomp_jax import feedback, trees
from deepcomp_jax._errors import listed
from deepcomp_jax._types import Compressed, Progress
from deepcomp_jax.api.compression import assembled, pack_leaves
from deepcomp_jax.budget.plans import stored_bytes
from deepcomp_jax.calibration import Calibration
from deepcomp_jax.format.scales import DTYPES
from deepcomp_jax.rate import grids
from deepcomp_jax.rules import Rule, resolve
from deepcomp_jax.share import SharedWeights

_FINE, _COARSE = math.log(1e-3), math.log(64)  # of steps, in units of a leaf's values


class Calibrated(NamedTuple):
    """A network whose weights are rounded with feedback, see `search.Search`.

    Attributes:
        variables: The network.
        prepared: Its weights, and what errors in them cost.
        progress: Is told of each leaf that is rounded, for each file anew.
    """

    variables: Any
    prepared: feedback.Prepared
    progress: Progress | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Logarithms of the step of a weight of importance 1.

        At the first every leaf is finer than anyone wants, at the second all are zero.
        """
        sizes: list[float] = []
        for name, own in self.prepared.matrices.items():
            squares = np.square(self.prepared.leaves[name], dtype=np.float32)
            if (rms := math.sqrt(squares.mean())) > 0:
                sizes += [math.log(rms) + math.log(x) / 2 for x in own.importance]
        if not sizes:
            return 0.0, 1.0
        return min(sizes) + _FINE, max(sizes) + _COARSE

    @property
    def values(self) -> int:
        """How many values are rounded to steps."""
        matrices = self.prepared.matrices
        return sum(self.prepared.leaves[name].size for name in matrices)

    def compressed(self, log_step: float) -> Compressed:
        """The network at one step."""
        rd_lambda = grids.lambda_for_step(math.exp(log_step), 1.0)
        packed = feedback.quantize(self.prepared, rd_lambda, self.progress)
        return assembled(trees.treedef(self.variables), self._kept() | packed)

    def _kept(self) -> dict[str, Any]:
        named = trees.named_leaves(self.variables)
        changed = {*self.prepared.leaves, *self.prepared.copies}
        rest = {n: x for n, x in named.items() if n not in changed}
        kept = SharedWeights({}, {}, rest, (), trees.treedef(rest))
        return pack_leaves(kept, {})

    def bits(self, log_step: float) -> float:
        """About what the weights take at one step."""
        rd_lambda = grids.lambda_for_step(math.exp(log_step), 1.0)
        return feedback.bits(self.prepared, rd_lambda)

    def stored_bits(self) -> float:
        """About what all else takes."""
        return 8 * sum(
            stored_bytes(name, np.asarray(leaf))
            for name, leaf in trees.named_leaves(self.variables).items()
            if name not in self.prepared.matrices and name not in self.prepared.copies
        )


def calibrated(
    variables: Any,
    rules: Sequence[Rule] | None,
    calibration: Calibration,
    progress: Progress | None = None,
) -> Calibrated:
    """Looks at a network and its statistics once.

    Args:
        variables: Any pytree of arrays.
        rules: Patterns of the leaves that are quantized; None for all of a floating
            type of 16 or 32 bits.
        calibration: Its statistics.
        progress: As in `Calibrated`.

    Raises:
        ValueError: The statistics are of another network, a leaf holds NaN or infinity,
            or a rule says more than which leaves it is for.
    """
    named = trees.named_leaves(variables)
    able = {n for n, leaf in named.items() if getattr(leaf, "dtype", None) in DTYPES}
    chosen = [name for name in named if name in able]
    if rules is not None:
        _check(rules)
        chosen = list(resolve(rules, named))
        if strange := [name for name in chosen if name not in able]:
            raise ValueError(
                f"leaves that cannot have scales: {listed(strange)}; only float16, "
                "bfloat16 and float32 can: leave them out of the rules"
            )
    missing = [name for name in chosen if name not in calibration.sensitivity]
    if missing:
        raise ValueError(
            f"the calibration does not have {listed(missing)}: calibrate this network, "
            "or choose leaves by rules"
        )
    prepared = feedback.prepare(variables, calibration, chosen, progress=progress)
    if not prepared.matrices:
        warnings.warn(
            "no leaf that is quantized is multiplied with anything, as far as the "
            "calibration could follow: see its notes",
            stacklevel=4,
        )
    return Calibrated(variables, prepared, progress)


def _check(rules: Sequence[Rule]) -> None:
    for rule in rules:
        if rule != Rule(rule.pattern):
            raise ValueError(
                f"rule {rule.pattern!r}: with a calibration, rules only say which "
                "leaves are quantized: give it nothing but a pattern"
            )
