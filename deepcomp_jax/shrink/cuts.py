"""Which units can be cut: those that no product reads, or reads as a constant."""

from collections.abc import Callable, Set
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from deepcomp_jax.shrink import units
from deepcomp_jax.shrink.axes import is_known
from deepcomp_jax.shrink.axis_rules import Axes
from deepcomp_jax.shrink.facts import Facts, backward
from deepcomp_jax.shrink.folding import Change, Folder, Refused
from deepcomp_jax.shrink.primitives import contracted
from deepcomp_jax.shrink.products import partners
from deepcomp_jax.shrink.program import Op, Program
from deepcomp_jax.shrink.spaces import Spaces
from deepcomp_jax.shrink.units import Kept

Removed: TypeAlias = Callable[[int], np.ndarray | None]

_READERS = ("dot_general", "conv_general_dilated")
_ENDS = ("input", "output", "constant")


class Network(NamedTuple):
    """A program, the spaces of its axes, and what depends on what."""

    program: Program
    spaces: Spaces
    axes: list[Axes]
    facts: Facts


class Labeled(Protocol):
    """A program and the spaces of its axes, whatever else is known of it."""

    @property
    def program(self) -> Program: ...
    @property
    def spaces(self) -> Spaces: ...
    @property
    def axes(self) -> list[Axes]: ...


class Remark(NamedTuple):
    """Something that was left as it is: the space, the primitive, and why."""

    space: int | None
    primitive: str
    text: str


class Cuts(NamedTuple):
    """What can be left out.

    Attributes:
        kept: bool of each unit, for the spaces that lose some.
        changes: What is added to leaves in return.
        remarks: What was left.
    """

    kept: Kept
    changes: list[Change]
    remarks: list[Remark]


class Read(NamedTuple):
    """How a product reads the units of a space.

    Attributes:
        op: The product.
        live: bool[units], read with a weight that is not zero.
        varying: bool[units], and the data may change what is read.
    """

    op: Op
    live: np.ndarray
    varying: np.ndarray


class _Round(NamedTuple):
    """What is known while units are cut, and the cuts so far."""

    network: Network
    folder: Folder
    needed: list[np.ndarray]
    reads: dict[int, list[Read]]
    cuts: Cuts


def cuttable(network: Labeled) -> list[int]:
    """The spaces that leaves have and whose units may be cut."""
    program, spaces = network.program, network.spaces
    used = program.users()
    leaves = [value for value in program.leaves if value in used]
    found = [
        atom
        for value in leaves
        for space in network.axes[value]
        for atom in spaces.atoms(space)
    ]
    return [atom for atom in dict.fromkeys(found) if atom not in spaces.pinned]


def between_data(network: Network) -> set[int]:
    """The spaces over which two values that depend on the data are multiplied."""
    of_data = network.program.of_data()
    return {
        atom
        for op in network.program.ops
        if op.name in _READERS and of_data.issuperset(op.inputs)
        for axis in contracted(op)
        for atom in network.spaces.atoms(network.axes[op.inputs[1]][axis])
    }


def find(network: Network, avoided: Set[int]) -> Cuts:
    """Finds the units that can be cut without changing a result.

    Cutting makes more of them idle, so it is repeated until nothing more is found.

    Args:
        network: What is known of the function.
        avoided: Spaces that must be left as they are.
    """
    folder = Folder(network.program, network.facts)
    cuts = Cuts({}, [], [])
    spaces = [atom for atom in cuttable(network) if atom not in avoided]
    while True:
        removed = remover(network, cuts.kept)
        needed = backward(network.program, network.facts, removed)
        reads = _reads(network, needed, removed)
        cuts.remarks.clear()
        now = _Round(network, folder, needed, reads, cuts)
        if not any([_cut(now, atom) for atom in spaces]):  # all of them
            cuts.remarks.extend(_remarks(network, reads))
            return cuts


def remover(network: Network, kept: Kept) -> Removed:
    """Tells which elements of a value are cut; None if none are."""

    def removed(value: int) -> np.ndarray | None:
        axes = network.axes[value]
        masks = [~units.mask(network.spaces, space, kept) for space in axes]
        if not any(mask.any() for mask in masks):
            return None
        gone = np.zeros((), bool)
        for mask in masks:
            gone = gone[..., None] | mask
        return gone

    return removed


def _reads(
    network: Network, needed: list[np.ndarray], removed: Removed
) -> dict[int, list[Read]]:
    """How products read the units of every space."""
    found: dict[int, list[Read]] = {}
    for op in network.program.ops:
        if op.name not in _READERS:
            continue
        a, b = op.inputs
        facts, wanted = network.facts, needed[op.outputs[0]]
        first, second = facts.live(a), facts.live(b)
        if (gone := removed(b)) is not None:
            second &= ~gone
        live = second & partners(op, wanted, first, second)[1]
        varying = live & facts.varying[b]
        if facts.varying[a].any():
            varying |= live & partners(op, wanted, facts.varying[a], second)[1]
        own: dict[int, Read] = {}
        for axis in contracted(op):
            space = network.axes[b][axis]
            others = tuple(i for i in range(live.ndim) if i != axis)
            flags = [
                units.project(network.spaces, space, np.asarray(mask.any(axis=others)))
                for mask in (live, varying)
            ]
            for atom in flags[0]:
                read = Read(op, flags[0][atom], flags[1][atom])
                before = own.get(atom)
                own[atom] = read if before is None else _either(before, read)
        for atom, read in own.items():
            found.setdefault(atom, []).append(read)
    return found


def _either(a: Read, b: Read) -> Read:
    return Read(a.op, a.live | b.live, a.varying | b.varying)


def _cut(now: _Round, atom: int) -> bool:
    """Cuts units of one space, and tells whether there were any."""
    none = np.zeros(now.network.spaces.sizes[atom], bool)
    kept = now.cuts.kept.get(atom, ~none)
    reads = now.reads.get(atom, [])
    live = np.logical_or.reduce([none, *(read.live for read in reads)])
    varying = np.logical_or.reduce([none, *(read.varying for read in reads)])
    left = kept & live
    constant = left & ~varying
    # A layer keeps one unit at least, or it would be no layer.
    if not left.any():
        left[np.flatnonzero(kept)[0]] = True
    elif not (left & ~constant).any():
        constant[np.flatnonzero(constant)[0]] = False
    if constant.any():
        left &= ~_fold(now, atom, constant)
    if (left == kept).all():
        return False
    now.cuts.kept[atom] = left
    return True


def _fold(now: _Round, atom: int, constant: np.ndarray) -> np.ndarray:
    """Folds constant units into biases; returns those where that was possible."""
    changes: list[Change] = []
    for read in now.reads[atom]:
        if not (read.live & constant).any():
            continue
        change = _change(now, read.op, {atom: ~constant})
        if isinstance(change, Change):
            changes.append(change)
            continue
        places = np.flatnonzero(constant)
        if change.of_all or places.size == 1:
            text = f"{places.size} units are constant, but {change.reason}"
            now.cuts.remarks.append(Remark(atom, read.op.name, text))
            return np.zeros_like(constant)
        folded = np.zeros_like(constant)
        for half in np.array_split(places, 2):
            own = np.zeros_like(constant)
            own[half] = True
            folded |= _fold(now, atom, own)
        return folded
    now.cuts.changes.extend(changes)
    return constant


def _change(now: _Round, op: Op, kept: Kept) -> Change | Refused:
    """What a bias must take over from a product whose other units are cut."""
    network, second = now.network, op.inputs[1]
    rows = {
        axis: ~units.mask(network.spaces, network.axes[second][axis], kept)
        for axis in contracted(op)
    }
    gone = remover(network, now.cuts.kept)(second)
    return now.folder.fold(op, rows, gone, now.needed)


def _remarks(network: Network, reads: dict[int, list[Read]]) -> list[Remark]:
    """What was left for the sake of other primitives."""
    found: list[Remark] = []
    for atom, reason in network.spaces.pinned.items():
        if reason in _ENDS or atom in network.spaces.bound or atom not in reads:
            continue
        idle = ~np.logical_or.reduce([read.live for read in reads[atom]])
        if idle.any():
            text = f"{int(idle.sum())} units are not read, but {reason} needs them"
            found.append(Remark(atom, reason, text))
    unknown = [op.name for op in network.program.ops if op.inputs and not is_known(op)]
    for name in dict.fromkeys(unknown):
        found.append(Remark(None, name, "not followed: what it reads is left as it is"))
    return found
