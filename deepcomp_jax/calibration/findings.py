"""What is found in the equations of a jaxpr: sums to be made, and notes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deepcomp_jax.calibration import products, provenance, values
from deepcomp_jax.calibration.products import Tap
from deepcomp_jax.calibration.values import Value
from deepcomp_jax.jaxprs import Path


class Note(NamedTuple):
    """A use of a leaf that is not followed.

    Attributes:
        leaf: The position of the leaf.
        why: The primitives that it went through.
    """

    leaf: int
    why: str


@dataclass
class Analysis:
    """What was found in a jaxpr.

    Attributes:
        shapes: The shapes of the leaves.
        max_gram: Of more inputs or outputs only the diagonal is summed.
        taps: For the path of each product the sums that belong to it.
        notes: Uses that are not followed, in order, each once.
        tables: For arrays of the batch the least length of the tables they index.
        used: The leaves that results depend on, a bit for each.
    """

    shapes: Sequence[tuple[int, ...]]
    max_gram: int
    taps: dict[Path, list[Tap]] = field(default_factory=dict)
    notes: dict[Note, None] = field(default_factory=dict)
    tables: dict[int, int] = field(default_factory=dict)
    used: int = 0

    def entered(self) -> set[Path]:
        """The paths of equations within which there are taps, or indices of theirs."""
        taps = [tap for group in self.taps.values() for tap in group]
        inner = [*self.taps, *(s.path for tap in taps for s in tap.key.steps)]
        return {path[:length] for path in inner for length in range(1, len(path))}

    def indexed(self) -> set[Path]:
        """The paths of equations whose indices say where sums belong."""
        taps = [tap for group in self.taps.values() for tap in group]
        return {step.path for tap in taps for step in tap.key.steps}


def _is_matrix(shape: Sequence[int]) -> bool:
    return sum(n > 1 for n in shape) > 1


def _note(found: Analysis, leaf: int, why: str) -> None:
    """Notes a use, unless the leaf is a vector, which needs no products."""
    if _is_matrix(found.shapes[leaf]):
        found.notes[Note(leaf, why)] = None


def note_unknown(found: Analysis, eqn: Any, operands: Sequence[Value]) -> None:
    """Notes leaves that meet data in a primitive that is not known."""
    name = eqn.primitive.name
    if name in values.ELEMENTWISE or not any(v.data for v in operands):
        return
    for value in operands:
        for piece in value.pieces if len(operands) > 1 else ():
            _note(found, piece.view.leaf, f"{name} with data")
        for leaf, lost in sorted(value.lost):
            _note(found, leaf, f"{lost}, then {name} with data")


def product(
    found: Analysis, eqn: Any, operands: list[Value], here: Path
) -> list[Value]:
    """A matrix product or convolution: what of its operands are leaves is summed."""
    name = eqn.primitive.name
    for operand in (0, 1):
        weights, other = operands[operand], operands[1 - operand]
        if not other.data:
            continue
        for leaf, lost in sorted(weights.lost):
            _note(found, leaf, f"{lost}, then {name} with data")
        for piece in weights.pieces:
            axes = None
            if name == "dot_general":
                axes = products.of_dot(eqn, operand, piece)
            elif operand == 1:
                axes = products.of_convolution(eqn, piece)
            _add_tap(found, here, name, operand, piece, axes)
    return provenance.applied(here, eqn, operands)


def _add_tap(
    found: Analysis, here: Path, name: str, operand: int, piece: Any, axes: Any
) -> None:
    shape = found.shapes[piece.view.leaf]
    kind = "table" if name == "gather" else "product"
    tap = axes and products.tap(kind, operand, piece, axes, shape, found.max_gram)
    if tap:
        found.taps.setdefault(here, []).append(tap)
    else:
        _note(found, piece.view.leaf, f"{name} of another form")


def gather(found: Analysis, eqn: Any, operands: list[Value], here: Path) -> list[Value]:
    """A look-up: rows of leaves are counted, and what chooses rows is remembered."""
    table, indices = operands[:2]
    axes = products.table_axes(eqn)
    for leaf, lost in sorted(table.lost if indices.data else ()):
        _note(found, leaf, f"{lost}, then gather with data")
    for piece in table.pieces:
        _add_tap(found, here, "gather", 0, piece, products.of_table(eqn, piece))
    if axes and len(axes[0]) == 1:
        length = eqn.invars[0].aval.shape[axes[0][0]]
        _index(found, indices, length)
    return provenance.applied(here, eqn, [table._replace(pieces=()), *operands[1:]])


def compare(found: Analysis, eqn: Any, operands: Sequence[Value]) -> None:
    """Integers that are compared with several constants choose one of these rows."""
    for one, other in ((0, 1), (1, 0)):
        classes = [n for n in eqn.invars[other].aval.shape if n > 1]
        if not operands[other].data and len(classes) == 1:
            _index(found, operands[one], classes[0])


def _index(found: Analysis, indices: Value, length: int) -> None:
    for array in indices.tables:
        found.tables[array] = min(length, found.tables.get(array, length))
