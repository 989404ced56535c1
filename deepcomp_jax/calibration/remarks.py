"""What a user should know about a calibration: all that was not followed."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from deepcomp_jax.calibration.gradients import Program, is_floating
from deepcomp_jax.calibration.networks import Network

_LARGE = 1024  # values of a constant that may be a weight
_STILL = (
    "outputs depend on it, but only behind stop_gradient or rounding, in a branch that "
    "was not taken, or through units that were off or saturated"
)
_THEN = "it is rounded as coarsely as the leaf that counts least"


def of_programs(names: Sequence[str], programs: Sequence[Program]) -> Iterator[str]:
    """Notes on what was found in the function, each once.

    Args:
        names: Of the leaves.
        programs: The function for batches of different shapes.
    """
    notes: dict[str, None] = {}
    for program in programs:
        if program.reason:
            notes[f"fn: sensitivities by differences only: {program.reason}"] = None
        for constant in program.constants:
            if math.prod(constant.shape) >= _LARGE and is_floating(constant):
                what = f"{constant.dtype}{list(constant.shape)}"
                notes[f"fn: not followed: {what}, a constant within it"] = None
        for note in program.found.notes if program.found else ():
            notes[f"{names[note.leaf]}: not followed: {note.why}"] = None
    yield from notes


def of_batches(kinds: Iterable[Sequence[tuple[Any, Any]]]) -> Iterator[str]:
    """A note on batches whose every number is taken for an example.

    Args:
        kinds: Shape and dtype of each array, for batches of different shapes.
    """
    for kind in kinds:
        ranks = {len(shape) for shape, _ in kind}
        if ranks == {1} and any(jnp.issubdtype(own, jnp.floating) for _, own in kind):
            yield (
                "fn: each number of arrays of one axis counts as an example: if such "
                "an array is a single one, give it an axis in front, `x[None]`"
            )
            return


def of_leaves(
    net: Network,
    programs: Sequence[Program],
    sensitivity: Mapping[str, np.ndarray],
) -> Iterator[str]:
    """Notes on leaves of which nothing is known.

    Args:
        net: The network.
        programs: The function for batches of different shapes.
        sensitivity: By name, of floating leaves.
    """
    known = [program.found for program in programs if program.found is not None]
    for i, (name, leaf) in enumerate(zip(net.names, net.leaves, strict=True)):
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            yield f"{name}: not followed: {leaf.dtype}"
        elif name not in sensitivity:
            continue
        elif known and not any(found.used >> i & 1 for found in known):
            yield f"{name}: not used: no output depends on it"
        elif not sensitivity[name].any():
            why = _STILL if known else "no change of it was seen in an output"
            yield f"{name}: sensitivity 0 in these batches: {why}; {_THEN}"
