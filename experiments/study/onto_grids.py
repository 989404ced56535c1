"""Onto coarse grids before any training: steps by sensitivity, rounding with feedback.

A calibration says what an error costs in each kernel, and which weights make up for the
errors of others. Steps by cost alone spread too widely for the training that follows,
steps by magnitude too little: they are in proportion to the geometric mean of the two.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import deepcomp_jax as dc
from deepcomp_jax import feedback, trees
from deepcomp_jax.calibration import Calibration, floored
from deepcomp_jax.share.methods import short_step
from experiments.study.stages import Study
from experiments.training.train import normalize

_IMAGES = 1024  # that are calibrated with
_BATCH = 128
_SLOPE = 0.8  # octaves by which files shrink with an octave of all steps, at first
_NEAR = 0.02  # of the size that is looked for
_LOOKS = 6  # at sizes, at most
_WIDEST = 6  # octaves from the steps to begin with: finer grids are of no use


class Coarsened(NamedTuple):
    """A network on grids.

    Attributes:
        params: Its parameters, of which kernels are multiples of their steps.
        steps: The step of each leaf.
    """

    params: Any
    steps: Any


class Sparse(NamedTuple):
    """A sparse network, ready for grids of any coarseness.

    Attributes:
        params: Its parameters.
        steps: The steps of all leaves where the coarseness is 1.
        prepared: Its kernels, and what errors cost in them.
    """

    params: Any
    steps: Any
    prepared: feedback.Prepared

    def coarsened(self, coarseness: float) -> Coarsened:
        """The network on grids that are so many times as coarse; zeros stay zero.

        Kernels of a few weights are left as they are.
        """
        leaves, steps = trees.named_leaves(self.params), trees.named_leaves(self.steps)
        matrices, copies = self.prepared.matrices, self.prepared.copies
        chosen = {
            name: short_step(coarseness * float(steps[name]))
            for name in (*self.prepared.leaves, *copies)
            if copies.get(name, name) in matrices
        }
        rounded = feedback.on_steps(self.prepared, chosen)
        leaves |= {
            name: jnp.where(leaves[name] == 0, 0, own) for name, own in rounded.items()
        }
        steps |= {name: jnp.float32(step) for name, step in chosen.items()}
        return Coarsened(
            trees.rebuild(self.params, leaves), trees.rebuild(self.steps, steps)
        )

    def coarseness(self, size: Callable[[Coarsened], int], aim: float) -> float:
        """Finds how coarse grids must be.

        Args:
            size: The bytes of the file of a network.
            aim: How many it shall have, about.

        Returns:
            Of all that were looked at, 1/64 to the coarsest that leaves something of
            each kernel, the one whose file is nearest to the aim.
        """
        octaves, slope = 0.0, _SLOPE
        looks: dict[float, float] = {}
        while len(looks) < _LOOKS and octaves not in looks:
            looks[octaves] = found = math.log2(size(self.coarsened(2**octaves)) / aim)
            if abs(found) < math.log2(1 + _NEAR):
                break
            if len(looks) > 1:
                before, last = list(looks)[-2:]
                slope = (looks[before] - looks[last]) / (last - before)
                slope = min(max(slope, _SLOPE / 4), _SLOPE * 4)
            octaves = min(max(octaves + found / slope, -_WIDEST), self._coarsest())
        return 2 ** min(looks, key=lambda octaves: abs(looks[octaves]))

    def _coarsest(self) -> float:
        """In octaves, where the largest weight of some kernel is half a step."""
        leaves, steps = trees.named_leaves(self.params), trees.named_leaves(self.steps)
        largest = {n: float(jnp.abs(leaves[n]).max()) for n in self.prepared.matrices}
        return min(
            (math.log2(2 * own / float(steps[n])) for n, own in largest.items() if own),
            default=0.0,
        )


def sparse(study: Study, params: Any, statistics: Any, steps: Any) -> Sparse:
    """Calibrates a sparse network, on images that it is trained on.

    Args:
        study: The run, with the network that has these parameters.
        params: Its parameters.
        statistics: Its other collections.
        steps: The step of each leaf, of kernels in proportion to their magnitudes.
    """
    found = _calibrated(study, params, statistics)
    leaves, named = trees.named_leaves(params), trees.named_leaves(steps)
    kernels = [name for name, leaf in leaves.items() if leaf.ndim > 1]
    costs = floored(found, params)
    relative = {n: float(named[n]) * math.sqrt(np.mean(costs[n])) for n in kernels}
    kept = [1 + int(jnp.count_nonzero(leaves[name])) for name in kernels]
    middle = np.average(np.log(list(relative.values())), weights=kept)
    for name, own in relative.items():
        named[name] = named[name] * math.exp((middle - math.log(own)) / 2)
    prepared = feedback.prepare(params, found, kernels)
    return Sparse(params, trees.rebuild(steps, named), prepared)


def _calibrated(study: Study, params: Any, statistics: Any) -> Calibration:
    def outputs(params: Any, images: jax.Array) -> jax.Array:
        variables = {"params": params, **statistics}
        logits: Any = study.model.apply(variables, normalize(images))
        return logits

    chosen = study.train.images[:_IMAGES]
    batches = [chosen[i : i + _BATCH] for i in range(0, len(chosen), _BATCH)]
    return dc.calibrate(outputs, params, batches)
