"""Constants that a product reads go into the bias behind it.

What a product loses when constant units are cut is the same at all places, and is added
to a leaf that is added there anyway. On the way only sums, products with numbers that
depend on no data, and reshapes may lie, each of which has a single reader.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from deepcomp_jax.shrink.arithmetic import compute
from deepcomp_jax.shrink.facts import Facts
from deepcomp_jax.shrink.moves import MOVES, move
from deepcomp_jax.shrink.primitives import contracted
from deepcomp_jax.shrink.program import Op, Program, bind

_SAME = frozenset({"copy", "copy_p", "name", "stop_gradient"})
_ROUNDING = 1e-5  # of the largest: by so much equal sums at different places differ


class Refused(NamedTuple):
    """Why a constant could not be folded.

    Attributes:
        reason: In words, after "constant units, but".
        of_all: Whether that holds for each constant unit alone too.
    """

    reason: str
    of_all: bool = True


class Change(NamedTuple):
    """What is added to a leaf, of its shape, in float64."""

    leaf: int
    delta: np.ndarray


class Folder:
    """Finds biases of one program."""

    def __init__(self, program: Program, facts: Facts):
        self.program = program
        self.facts = facts
        self.users = program.users()
        self.makers = {value: op for op in program.ops for value in op.outputs}

    def fold(
        self,
        op: Op,
        rows: Mapping[int, np.ndarray],
        gone: np.ndarray | None,
        needed: list[np.ndarray],
    ) -> Change | Refused:
        """Finds what a bias must take over when a product loses constant units.

        Args:
            op: The product.
            rows: bool for each axis over which it sums, as the second operand numbers
                them: which indices are cut.
            gone: bool, which elements of the second operand are cut already.
            needed: Which elements of all values matter.
        """
        if op.name == "conv_general_dilated" and np.any(op.params["padding"]):
            return Refused("they are not zero and zeros are padded around them")
        a, b = op.inputs
        cut = np.zeros(self.facts.varying[b].shape, bool)
        for axis in contracted(op):
            along = [1] * cut.ndim
            along[axis] = -1
            cut |= rows[axis].reshape(along)
        if gone is not None:
            cut &= ~gone
        second = self.facts.fixed(b)
        lost = np.where(cut, second, np.zeros_like(second))
        (result,) = bind(op, [self.facts.fixed(a), lost])
        return self._follow(op.outputs[0], result, needed)

    def _follow(
        self, value: int, lost: Any, needed: list[np.ndarray]
    ) -> Change | Refused:
        """Follows a value that lacks something to the leaf that can make up for it."""
        while True:
            users = self.users.get(value, [])
            if len(users) != 1 or value in self.program.outputs:
                return Refused("there is no bias of its own behind what reads them")
            op = self.program.ops[users[0]]
            side = op.inputs.index(value)
            found = None
            if op.name in ("add", "sub", "add_any"):
                found = self._bias(op.inputs[1 - side])
                lost = np.broadcast_to(np.asarray(lost), needed[op.outputs[0]].shape)
                if op.name == "sub" and side == 1:
                    lost = -lost
            elif op.name == "mul" and self._is_fixed(op.inputs[1 - side]):
                lost = compute(op, [lost, self.facts.values[op.inputs[1 - side]]])[0]
            elif op.name in MOVES and len(op.inputs) == 1:
                lost = move(op, [np.asarray(lost)])[0]
            elif op.name not in _SAME:
                return Refused(f"{op.name} comes between what reads them and a bias")
            value = op.outputs[0]
            if found is not None:
                leaf, places = found
                minus = op.name == "sub" and side == 0
                return self._settle(
                    leaf, places, -lost if minus else lost, needed[value]
                )

    def _is_fixed(self, value: int) -> bool:
        return not self.facts.varying[value].any()

    def _bias(self, value: int) -> tuple[int, np.ndarray] | None:
        """The leaf that a value shows, and where in it each element comes from."""
        path: list[Op] = []
        while value not in self.program.leaves:
            op = self.makers.get(value)
            single = len(self.users[value]) == 1 and value not in self.program.outputs
            if op is None or op.name not in MOVES or len(op.inputs) != 1 or not single:
                return None
            path.append(op)
            value = op.inputs[0]
        shape = self.facts.varying[value].shape
        numbers = np.arange(int(np.prod(shape))).reshape(shape)
        first = path[-1] if path else None
        for op in path[::-1]:
            numbers = move(op, [numbers])[0]
        return (value, numbers) if self._is_alone(value, first, numbers) else None

    def _is_alone(self, leaf: int, reader: Op | None, places: np.ndarray) -> bool:
        """Whether no other operation reads these elements of a leaf."""
        if leaf in self.program.outputs:
            return False
        shape = self.facts.varying[leaf].shape
        numbers = np.arange(int(np.prod(shape))).reshape(shape)
        others = [self.program.ops[place] for place in self.users[leaf]]
        if reader is None:
            return len(others) == 1
        for op in others:
            if op is not reader:
                read = move(op, [numbers])[0] if op.name == "slice" else numbers
                if np.isin(places, np.asarray(read)).any():
                    return False
        return True

    def _settle(
        self, leaf: int, places: np.ndarray, lost: Any, needed: np.ndarray
    ) -> Change | Refused:
        """Adds what is lost to a leaf, if it is the same wherever it must be added."""
        dtype = self.facts.values[leaf].dtype
        if not jnp.issubdtype(dtype, jnp.number):
            return Refused("what is added behind what reads them is no number")
        shape = self.facts.varying[leaf].shape
        size = int(np.prod(shape))
        where = np.broadcast_to(places, needed.shape)[needed]
        values = np.asarray(lost, np.float64)[needed]
        low, high = np.full(size, np.inf), np.full(size, -np.inf)
        np.minimum.at(low, where, values)
        np.maximum.at(high, where, values)
        low, high = (np.where(low <= high, x, 0) for x in (low, high))
        largest = np.abs(values).max(initial=0)
        if (high - low).max(initial=0) > _ROUNDING * largest:
            return Refused("what they add differs from place to place", of_all=False)
        delta = np.where(low == high, low, low / 2 + high / 2)
        return Change(leaf, delta.reshape(shape))
