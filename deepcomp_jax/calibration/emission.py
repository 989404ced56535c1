"""A jaxpr evaluated once more, so that its gradient gives the sums over its products.

At each product the result passes through a function that is the identity, but whose
derivative by *dummies*, zeros that it does not use, is defined as the sums over the
operands. The gradient of a scalar by these dummies is then the sum over all uses of a
leaf, through loops and branches, and costs no pass of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax

from deepcomp_jax import jaxprs
from deepcomp_jax.calibration import measures
from deepcomp_jax.calibration.findings import Analysis
from deepcomp_jax.calibration.measures import Sums
from deepcomp_jax.calibration.products import Key, Tap
from deepcomp_jax.jaxprs import Body, Path


def dummies(found: Analysis) -> dict[Key, Sums]:
    """Zeros for all sums of a jaxpr."""
    taps = (tap for group in found.taps.values() for tap in group)
    return {tap.key: measures.zeros(tap) for tap in taps}


def evaluate(
    body: Body, operands: Sequence[Any], found: Analysis, sums: Mapping[Key, Sums]
) -> list[Any]:
    """Evaluates a jaxpr whose derivative by `sums` is what `analyze` has planned.

    Args:
        body: The jaxpr.
        operands: Its operands, traced.
        found: What is to be summed.
        sums: The dummies.
    """
    plan = _Plan(found, found.entered(), found.indexed(), {})
    return plan.evaluated(body, operands, sums, ())


@dataclass
class _Plan:
    """An evaluation that is going on.

    Attributes:
        found: What is to be summed.
        entered: The paths of equations within which something is.
        indexed: Those of equations whose operands say where sums belong.
        indices: These operands, once they have been traced.
    """

    found: Analysis
    entered: set[Path]
    indexed: set[Path]
    indices: dict[Path, Sequence[Any]]

    def evaluated(
        self, body: Body, operands: Sequence[Any], sums: Mapping[Key, Sums], path: Path
    ) -> list[Any]:
        def rule(position: int, eqn: Any, values: list[Any]) -> list[Any]:
            here = (*path, position)
            if here in self.indexed:
                self.indices[here] = values
            if here in self.entered:
                return self._inside(eqn, values, sums, here)
            results = jaxprs.bind(eqn, values)
            for tap in self.found.taps.get(here, ()):
                at = self._sums_at(tap, sums[tap.key])
                other = values[1 - tap.operand]
                results[0] = _tapped(tap, eqn, results[0], other, at)
            return results

        return jaxprs.walk(body, operands, rule, lambda value: value)

    def _inside(
        self, eqn: Any, values: list[Any], sums: Mapping[Key, Sums], here: Path
    ) -> list[Any]:
        if eqn.primitive.name == "scan":
            return self._scan(eqn, values, sums, here)
        if eqn.primitive.name == "cond":
            calls = [
                lambda *args, b=branch, p=(*here, which): self.evaluated(
                    b, args, sums, p
                )
                for which, branch in enumerate(jaxprs.branches(eqn) or ())
            ]
            return lax.switch(values[0], calls, *values[1:])
        body = jaxprs.called(eqn)
        assert body is not None, f"{eqn.primitive.name} was entered"
        if eqn.primitive.name not in jaxprs.REMATS:
            return self.evaluated(body, values, sums, here)
        again = jax.checkpoint(
            lambda *args: self.evaluated(body, args, sums, here),
            prevent_cse=eqn.params["prevent_cse"],
            policy=eqn.params["policy"],
        )
        return again(*values)

    def _scan(
        self, eqn: Any, values: list[Any], sums: Mapping[Key, Sums], here: Path
    ) -> list[Any]:
        loop = jaxprs.scan(eqn)
        assert loop is not None
        split = loop.constants + loop.carries
        sliced = {
            key: sums[key]
            for key in sums
            if any(step.path == here for step in key.scans)
        }

        def step(carries: list[Any], slices: tuple[Any, Any]) -> tuple[Any, Any]:
            operands = [*values[: loop.constants], *carries, *slices[0]]
            inner = {**sums, **slices[1]}
            results = self.evaluated(loop.body, operands, inner, here)
            return results[: loop.carries], results[loop.carries :]

        carries, stacked = lax.scan(
            step,
            values[loop.constants : split],
            (values[split:], sliced),
            length=loop.length,
            reverse=loop.reverse,
        )
        return [*carries, *stacked]

    def _sums_at(self, tap: Tap, sums: Sums) -> Sums:
        """The dummies at the traced indices by which a leaf was taken apart."""
        a, g, count = sums
        for step in tap.key.steps:
            index = self.indices[step.path][step.operand]
            a, g, count = (
                lax.dynamic_index_in_dim(x, index, keepdims=False)
                for x in (a, g, count)
            )
        return a, g, count


def _tapped(tap: Tap, eqn: Any, result: Any, other: Any, sums: Sums) -> Any:
    """The result of a product; its derivative by `sums` is what is to be summed."""

    @jax.custom_vjp
    def identity(result: Any, other: Any, sums: Sums) -> Any:
        return result

    def forward(result: Any, other: Any, sums: Sums) -> tuple[Any, Any]:
        return result, other

    def backward(other: Any, gradient: Any) -> tuple[Any, None, Sums]:
        return gradient, None, measures.measured(tap, eqn, other, gradient)

    identity.defvjp(forward, backward)
    return identity(result, other, sums)
