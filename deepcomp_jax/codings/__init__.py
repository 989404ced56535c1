"""Codings of labels, and the choice of the one that makes the smallest body.

A coding is a record of pure functions, `Coding`, which says what each of them owes.
`specs/codings.md` says what every bit of a body is.

    packed     every label in the same number of bits
    relative   gaps and indices by Huffman, the paper's and without a cap
    order0     a label for every weight by rANS
    grouped    gaps within groups of equally dense weights, and indices, by rANS
"""

import math

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import common, grouped, order0, packed, relative
from deepcomp_jax.codings.common import Coding as Coding
from deepcomp_jax.codings.common import Leaf as Leaf
from deepcomp_jax.codings.common import Measured as Measured
from deepcomp_jax.codings.common import dequantize as dequantize
from deepcomp_jax.codings.price_model import prices as prices

_MARGIN = 64  # bits that an estimate may be too high

# The order is that of their numbers in a file.
ALL: dict[str, Coding] = {
    "packed": packed.CODING,
    "relative": relative.CODING,
    "order0": order0.CODING,
    "grouped": grouped.CODING,
}


def decode(
    coding: str, body: bytes, leaf: Leaf, lookup: np.ndarray | None = None
) -> np.ndarray:
    """Reads labels.

    Args:
        coding: The name of their coding.
        body: What `encode` wrote.
        leaf: What they belong to.
        lookup: The value of each label, [entries + 1]; None to get the labels.

    Returns:
        Labels, uint[size], or what they stand for.

    Raises:
        FormatError: The body breaks a clause of the coding.
    """
    if lookup is None:
        lookup = common.labels_of(leaf)
    return ALL[coding].decode(body, leaf, lookup, common.HOST)


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
        return coding, relative.encode(labels, gap_bits)
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
        name: len(other.encode(labels, leaf))
        for name, other in ALL.items()
        if name != coding and other.applies(leaf)
    }
    best = min(others, key=others.__getitem__)
    return best, others[best]


def _smallest(labels: NDArray[np.unsignedinteger], leaf: Leaf) -> tuple[str, bytes]:
    """The smallest body, of those that are not estimated to be larger than another."""
    bodies: dict[str, bytes] = {}
    # What cannot be estimated goes first: the grouped coding, mostly the smallest.
    for name in sorted(ALL, key=lambda name: ALL[name].estimate is not None):
        coding, least = ALL[name], min(map(len, bodies.values()), default=math.inf)
        if coding.applies(leaf) and (
            coding.estimate is None
            or coding.estimate(labels, leaf) < 8 * least + _MARGIN
        ):
            bodies[name] = coding.encode(labels, leaf)
    best = min(bodies, key=lambda name: len(bodies[name]))
    return best, bodies[best]
