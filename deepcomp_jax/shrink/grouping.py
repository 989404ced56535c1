"""Groups of units that are cut together, as a user sees them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from deepcomp_jax.shrink import cuts, units
from deepcomp_jax.shrink.cuts import Labeled, Remark
from deepcomp_jax.shrink.moves import MOVES
from deepcomp_jax.shrink.program import Program

_LINEAR = MOVES | frozenset({
    "add", "add_any", "conv_general_dilated", "convert_element_type", "copy",
    "dot_general", "gather", "max", "min", "mul", "neg", "select_n", "stop_gradient",
    "sub",
})  # fmt: skip


class Note(NamedTuple):
    """Something that was left as it is because it could not be proved idle.

    Attributes:
        group: The units in question, named as in `Group`; empty if the note is about
            the function as a whole.
        primitive: The operation that stands in the way.
        text: What there is and why it stays.
    """

    group: str
    primitive: str
    text: str


class Part(NamedTuple):
    """An axis of a leaf that has units of a group.

    Attributes:
        leaf: The name of the leaf.
        axis: The number of the axis, from 0.
        units: int `[length of the axis]`: which unit each index belongs to, -1 if none.
        carried: Whether units only carry the values along, as they do variances, for
            which zero is no neutral number.
    """

    leaf: str
    axis: int
    units: np.ndarray
    carried: bool

    def __repr__(self) -> str:
        carried = ", carried" if self.carried else ""
        return f"Part({self.leaf!r}, axis {self.axis}{carried})"


class Group(NamedTuple):
    """Units that are cut together wherever they are.

    Attributes:
        name: Of the leaves with most axes that have them the one that is used first,
            and the axis, as in `"fc1/kernel:1"`; where an axis has several groups, such
            as heads and their width, their number follows, as in `"query/kernel:1.0"`.
        size: How many units there are.
        parts: All axes of leaves with these units.
    """

    name: str
    size: int
    parts: tuple[Part, ...]

    def __repr__(self) -> str:
        return f"Group({self.name!r}, {self.size} units on {len(self.parts)} axes)"


def groups_of(network: Labeled, names: Sequence[str]) -> dict[int, Group]:
    """The groups of units that may be cut, by their spaces."""
    return {atom: group(network, names, atom) for atom in cuts.cuttable(network)}


def group(network: Labeled, names: Sequence[str], atom: int) -> Group:
    """The group of one space.

    Args:
        network: The function with the spaces of its axes.
        names: The names of all leaves of the parameters.
        atom: The space.
    """
    program, parts = network.program, []
    found: list[tuple[int, int, str]] = []
    for leaf, value, use in zip(names, program.leaves, uses(program), strict=True):
        axes = network.axes[value]
        for axis, space in enumerate(axes):
            atoms = network.spaces.atoms(space)
            if atom in atoms:
                number = "" if len(atoms) == 1 else f".{atoms.index(atom)}"
                found.append((-len(axes), use.place, f"{leaf}:{axis}{number}"))
                own = units.places(network.spaces, space, atom)
                parts.append(Part(leaf, axis, own, use.carried))
    return Group(min(found)[-1], network.spaces.sizes[atom], tuple(parts))


def note(network: Labeled, names: Sequence[str], remark: Remark) -> Note:
    """A remark on a space as one on a group."""
    found = "" if remark.space is None else group(network, names, remark.space).name
    return Note(found, remark.primitive, remark.text)


class Use(NamedTuple):
    """How a function uses a leaf.

    Attributes:
        carried: Whether something else than sums and products reads it before it meets
            data.
        place: The first operation where it meets data.
    """

    carried: bool
    place: int


def uses(program: Program) -> list[Use]:
    """How a program uses each of its leaves."""
    users, of_data = program.users(), program.of_data()
    found: list[Use] = []
    for leaf in program.leaves:
        carried, place, rest = False, len(program.ops), [leaf]
        while rest:
            for user in users.get(rest.pop(), []):
                op = program.ops[user]
                carried |= op.name not in _LINEAR
                fixed = [value for value in op.outputs if value not in of_data]
                rest.extend(fixed)
                if len(fixed) < len(op.outputs):
                    place = min(place, user)
        found.append(Use(carried, place))
    return found


def widths(
    groups: Mapping[int, Group], kept: Mapping[int, np.ndarray]
) -> dict[str, tuple[int, int]]:
    """How many units each group had and has."""
    return {
        group.name: (group.size, int(kept[atom].sum()) if atom in kept else group.size)
        for atom, group in groups.items()
    }
