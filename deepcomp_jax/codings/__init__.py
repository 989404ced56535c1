"""Codings of labels: each a pair of pure inverse functions, and the choice of one.

The law: `decode(encode(labels, leaf), leaf)` is `labels`, for each that applies.
`specs/codings.md` says what every bit of a body is.

    packed     every label in the same number of bits
    relative   gaps and indices by Huffman, the paper's and without a cap
    order0     a label for every weight by rANS
    grouped    gaps within groups of equally dense weights, and indices, by rANS
"""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import grouped, order0, packed, relative
from deepcomp_jax.codings.common import Leaf as Leaf
from deepcomp_jax.codings.common import Measured as Measured
from deepcomp_jax.codings.common import paint as paint
from deepcomp_jax.codings.price_model import prices as prices

_MARGIN = 64  # bits that an estimate may be too high

# The order is that of their numbers in a file.
ALL: dict[str, ModuleType] = {
    "packed": packed,
    "relative": relative,
    "order0": order0,
    "grouped": grouped,
}


def decode(
    coding: str, body: bytes, leaf: Leaf, palette: np.ndarray | None = None
) -> np.ndarray:
    """Reads labels.

    Args:
        coding: The name of their coding.
        body: What `encode` wrote.
        leaf: What they belong to.
        palette: What each label is decoded to, [entries + 1]; None for labels.

    Returns:
        Labels, uint[size], or what they stand for.

    Raises:
        FormatError: The body breaks a clause of the coding.
    """
    return ALL[coding].decode(body, leaf, palette)


def encode(
    labels: NDArray[np.unsignedinteger],
    leaf: Leaf,
    coding: str | None = None,
    gap_bits: int | None = None,
) -> tuple[str, bytes]:
    """Writes labels in a coding, or in the one that makes the smallest body.

    Args:
        labels: uint[size], 0 to `leaf.entries`.
        leaf: What they belong to.
        coding: A name in `ALL`; None tries all that could be the smallest.
        gap_bits: For the relative coding, see there.

    Returns:
        The name of the coding, and the body.

    Raises:
        ValueError: The coding cannot hold the leaf.
    """
    if coding == "relative":
        return coding, relative.encode(labels, leaf, gap_bits=gap_bits)
    if coding is not None:
        if not ALL[coding].applies(leaf):
            raise ValueError(
                f"the {coding} coding cannot hold a codebook of {leaf.entries} "
                "entries: share with fewer clusters, or choose no coding"
            )
        return coding, ALL[coding].encode(labels, leaf)
    return _smallest(labels, leaf)


def runner_up(
    labels: NDArray[np.unsignedinteger], leaf: Leaf, coding: str
) -> tuple[str, int]:
    """The smallest of all other codings, and the bytes that it would take."""
    others = {
        name: len(module.encode(labels, leaf))
        for name, module in ALL.items()
        if name != coding and module.applies(leaf)
    }
    best = min(others, key=others.__getitem__)
    return best, others[best]


def _smallest(labels: NDArray[np.unsignedinteger], leaf: Leaf) -> tuple[str, bytes]:
    """The grouped coding, or another that is expected to be as small and is smaller."""
    bodies: dict[str, bytes] = {}
    if grouped.applies(leaf):
        bodies["grouped"] = grouped.encode(labels, leaf)
    for name, module in ALL.items():
        if name in bodies or not module.applies(leaf):
            continue
        least = min(map(len, bodies.values()), default=None)
        if least is None or module.estimate(labels, leaf) < 8 * least + _MARGIN:
            bodies[name] = module.encode(labels, leaf)
    best = min(bodies, key=lambda name: len(bodies[name]))
    return best, bodies[best]
