"""The vocabulary: the records that pass between the modules, all on the host.

Letters used in shapes: `n` values of a tensor, `k` centroids of a codebook.
"""

from typing import NamedTuple, TypeAlias

import numpy as np

MAX_CODEBOOK = 1 << 15  # entries: as many words as a code of 15 bits has

# The containers of a pytree with, in place of each leaf, its index in tree order.
# Dictionary keys are strings and non-negative integers, integers first, each sorted.
Structure: TypeAlias = (
    "dict[str | int, Structure] | list[Structure] | tuple[Structure, ...] | int | None"
)


class DenseLeaf(NamedTuple):
    """A leaf that keeps its own values.

    Attributes:
        values: The values, any shape and dtype.
    """

    values: np.ndarray


class SharedLeaf(NamedTuple):
    """A leaf whose values are pruned or shared.

    Attributes:
        labels: Unsigned integers in the shape of the leaf: 0 is a pruned weight,
            exactly zero, and j stands for `codebook[j - 1]`.
        codebook: Index in `Compressed.codebooks`. Several leaves may share one.
        coding: How labels are coded, as in `Rule`; None takes the one that
            makes the smallest file.
        gap_bits: Width of a gap symbol of the paper's relative coding; None leaves it
            to the coding.
    """

    labels: np.ndarray
    codebook: int
    coding: str | None = None
    gap_bits: int | None = None


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
