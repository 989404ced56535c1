"""The vocabulary: the records that pass between the modules, all on the host.

Letters used in shapes: `n` values of a tensor, `k` centroids of a codebook.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

MAX_CODEBOOK = 1 << 15  # entries: as many words as a code of 15 bits has

# The containers of a pytree with, in place of each leaf, its index in tree order.
# Dictionary keys are strings and non-negative integers, integers first, each sorted.
Structure: TypeAlias = (
    "dict[str | int, Structure] | list[Structure] | tuple[Structure, ...] | int | None"
)

# Called with leaves done, all leaves, bytes read of them, and bytes of the file so far.
Progress: TypeAlias = Callable[[int, int, int, int], None]


class DenseLeaf(NamedTuple):
    """A leaf that keeps its own values.

    Attributes:
        values: The values, any shape and dtype.
    """

    values: np.ndarray


class Scales(NamedTuple):
    """What the entries of a leaf with labels are multiplied by, by row and by column.

    The leaf is seen as matrices [B, a, b]: B is the product of its first `batch`
    dimensions, a that of the next ones up to `split`, and b that of all others. An
    exponent e stands for the scale 2**(e / 8). A value is its entry in float32, times
    the scale of its row, times that of its column, each product rounded to float32, and
    then rounded to the dtype of the codebook, which must be float16, bfloat16 or
    float32 (`specs/container.md`, C64).

    Attributes:
        batch: How many axes count matrices, 0 to `split`.
        split: How many axes come before those of the columns, up to all.
        first: Exponents of the rows, int8[B, a].
        last: Exponents of the columns, int8[B, b].
    """

    batch: int
    split: int
    first: np.ndarray
    last: np.ndarray


class SharedLeaf(NamedTuple):
    """A leaf whose values are pruned or shared.

    Attributes:
        labels: Unsigned integers in the shape of the leaf: 0 is a pruned weight,
            exactly zero, and j stands for `codebook[j - 1]`, times its scales if there
            are any.
        codebook: Index in `Compressed.codebooks`. Several leaves may share one.
        coding: How labels are coded, as in `Rule`; None takes the one that
            makes the smallest file.
        gap_bits: Width of a gap symbol of the paper's relative coding; None leaves it
            to the coding.
        scales: Of its rows and columns; None multiplies by nothing.
    """

    labels: np.ndarray
    codebook: int
    coding: str | None = None
    gap_bits: int | None = None
    scales: Scales | None = None


class Compressed(NamedTuple):
    """A whole network, ready to be written: what a `.dcz` file holds.

    Attributes:
        structure: The containers of the pytree.
        leaves: The leaves, in tree order.
        codebooks: One-dimensional arrays, strictly ascending, in the dtype of the
            leaves that use them, in order of first use.
    """

    structure: Structure
    leaves: tuple[DenseLeaf | SharedLeaf, ...]
    codebooks: tuple[np.ndarray, ...]

    def __repr__(self) -> str:
        shared = sum(isinstance(leaf, SharedLeaf) for leaf in self.leaves)
        return (
            f"Compressed({len(self.leaves)} leaves, {shared} of them with labels, "
            f"{len(self.codebooks)} codebooks)"
        )
