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
from deepcomp_jax.codings.common import Labels, Plan, Take
from deepcomp_jax.codings.common import Leaf as Leaf
from deepcomp_jax.codings.common import Measured as Measured
from deepcomp_jax.codings.common import dequantize as dequantize
from deepcomp_jax.codings.price_model import estimate as estimate
from deepcomp_jax.codings.price_model import group_prices as group_prices
from deepcomp_jax.codings.price_model import label_prices as label_prices
from deepcomp_jax.streams import rans

_MARGIN = 24  # bits by which what a body is expected to take may be wrong

# The order is that of their numbers in a file.
ALL: dict[str, Coding] = {
    "packed": packed.CODING,
    "relative": relative.CODING,
    "order0": order0.CODING,
    "grouped": grouped.CODING,
}

# Of bodies that are equally small the first is taken.
_PREFERRED = "grouped", "packed", "relative", "order0"


def decode(
    coding: str,
    body: bytes,
    leaf: Leaf,
    lookup: np.ndarray | None = None,
    take: Take = rans.take,
) -> np.ndarray:
    """Reads labels, or the values that they stand for.

    Args:
        coding: Name of the coding, as `encode` gave it.
        body: The body that `encode` wrote.
        leaf: The leaf of the labels.
        lookup: The value of each label, [entries + 1]; None to get the labels.
        take: What decodes rANS streams: a loop that is compiled, for example.

    Returns:
        The labels, uint[size], or their values, [size] in the dtype of `lookup`.

    Raises:
        FormatError: The body breaks a clause of the coding.
    """
    if lookup is None:
        lookup = common.labels_of(leaf)
    return ALL[coding].decode(body, leaf, lookup, take)


def encode(
    labels: NDArray[np.unsignedinteger],
    leaf: Leaf,
    coding: str | None = None,
    gap_bits: int | None = None,
    *,
    put: rans.Put = rans.put,
) -> tuple[str, bytes]:
    """Writes labels in a coding, or in the one that makes the smallest body.

    Args:
        labels: uint[size], 0 to `leaf.entries`.
        leaf: The leaf of the labels.
        coding: A name in `ALL`; None takes the one that makes the smallest body.
        gap_bits: Only for the relative coding, see `relative.encode`.
        put: What codes rANS streams: a loop that is compiled, for example. The body is
            the same.

    Returns:
        The name of the coding, and the body.

    Raises:
        ValueError: The coding cannot hold the leaf.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax import codings
        >>> leaf = codings.Leaf(shape=(2, 4), entries=3, negatives=1)
        >>> labels = np.array([0, 3, 1, 0, 0, 2, 2, 1], np.uint8)
        >>> name, body = codings.encode(labels, leaf)
        >>> name, body.hex(" ")
        ('packed', '34 29')
        >>> codings.decode(name, body, leaf)
        array([0, 3, 1, 0, 0, 2, 2, 1], dtype=uint8)
        >>> codings.decode(name, body, leaf, np.array([0.0, -1.0, 0.5, 2.0]))
        array([ 0. ,  2. , -1. ,  0. ,  0. ,  0.5,  0.5, -1. ])
    """
    if coding == "relative":
        return coding, relative.encode(labels, gap_bits)
    if coding is not None:
        if not ALL[coding].applies(leaf):
            raise ValueError(
                f"the {coding} coding cannot hold a codebook of {leaf.entries} "
                "entries: share with fewer clusters, or choose no coding"
            )
        return coding, ALL[coding].encode(labels, leaf, put)
    return _smallest(labels, leaf, put)


def others(
    labels: NDArray[np.unsignedinteger], leaf: Leaf, coding: str
) -> dict[str, int]:
    """The bytes of the body that each coding but one would make, if it applies."""
    return {
        name: len(other.encode(labels, leaf))
        for name, other in ALL.items()
        if name != coding and other.applies(leaf)
    }


def _smallest(labels: Labels, leaf: Leaf, put: rans.Put) -> tuple[str, bytes]:
    """The smallest body, of those that are not expected to be larger than another."""
    counts = common.counts(labels, leaf)
    least = {
        name: coding.least(labels, leaf, counts)
        for name, coding in ALL.items()
        if coding.applies(leaf)
    }
    plans: dict[str, Plan] = {}
    # What may be small goes first, and makes many others superfluous.
    for name in sorted(least, key=least.__getitem__):
        most = min((plan.bits for plan in plans.values()), default=math.inf)
        if least[name] <= most + _MARGIN:
            plans[name] = ALL[name].plan(labels, leaf, counts)
    most = min(plan.bits for plan in plans.values()) + _MARGIN
    bodies = {
        name: plans[name].write(put)
        for name in _PREFERRED
        if name in plans and plans[name].bits <= most
    }
    best = min(bodies, key=lambda name: len(bodies[name]))
    return best, bodies[best]
