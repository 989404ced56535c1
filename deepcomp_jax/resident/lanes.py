"""Labels as rANS lanes that can be decoded alone: a lane for each row of a leaf.

A file has a stream for each part of a leaf, in whichever coding is the smallest, and
its lanes take turns. A device needs something else: one layer of a stack, or some rows
of a table, without all others. So labels are coded again when a network is brought to
a device, by one model for a leaf, each row, or piece of a long one, in a lane of its
own. That takes ten bytes a lane: a state, where its words begin, and how many they are.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.codings import order0, symbol_models
from deepcomp_jax.device import put_on_cpu
from deepcomp_jax.streams import rans
from deepcomp_jax.streams.counting import bincount

MAX_ENTRIES = order0.MAX_ENTRIES  # of a codebook that a model of 4096 can hold
_LEAST = 64  # symbols of a lane, or the ten bytes of each weigh too much
_LONG = 512  # symbols that a lane may have in the smallest leaf too
_MOST = 4096  # symbols of a lane, or there are too many steps
_SIDE_BY_SIDE = 4096  # lanes that are coded at a time, which bounds the memory


class Layout(NamedTuple):
    """How a leaf is divided into lanes.

    Attributes:
        lead: How many of its axes count rows.
        pieces: Lanes of each row.
        length: Symbols of each lane.
    """

    lead: int
    pieces: int
    length: int


class Lanes(NamedTuple):
    """Labels, coded.

    Attributes:
        words: Of all lanes of a leaf, uint16[w]; of a leaf of three axes or more those
            of each index of the first one, with zeros behind the shorter ones,
            uint16[n, w].
        states: State of each lane, uint32[*rows, pieces].
        starts: Where its words begin, int32[*rows, pieces].
        sizes: How many they are, uint16[*rows, pieces].
        frequencies: How often each label is expected, of 4096; uint16[entries + 1].
    """

    words: NDArray[np.uint16]
    states: NDArray[np.uint32]
    starts: NDArray[np.int32]
    sizes: NDArray[np.uint16]
    frequencies: NDArray[np.uint16]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(own.nbytes for own in self)


def divide(shape: tuple[int, ...]) -> Layout:
    """How a leaf of this shape is divided into lanes.

    A row is the last axis, and those before it while it is short. Long rows of small
    leaves are cut into pieces, for a few lanes alone keep no processor busy.

    Examples:
        >>> from deepcomp_jax.resident import lanes
        >>> lanes.divide((24, 1024, 4096))
        Layout(lead=2, pieces=1, length=4096)
        >>> lanes.divide((512, 256, 3, 3))
        Layout(lead=1, pieces=6, length=384)
        >>> lanes.divide((3072,))
        Layout(lead=0, pieces=6, length=512)
    """
    lead = max(len(shape) - 1, 0)
    while lead > 1 and math.prod(shape[lead:]) < _LEAST:
        lead -= 1
    columns = math.prod(shape[lead:])
    layer = math.prod(shape[1:] if len(shape) > 2 else shape)
    most = min(columns, _MOST, max(_LONG, 4 * math.isqrt(layer)))
    length = next(n for n in range(most, 0, -1) if columns % n == 0)
    return Layout(lead, columns // length, length)


def encode(labels: NDArray[np.unsignedinteger], entries: int) -> Lanes:
    """Codes the labels of a leaf, which are not none.

    Args:
        labels: In the shape of the leaf, 0 to `entries`.
        entries: Of the codebook, `MAX_ENTRIES` at most.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.resident import lanes
        >>> coded = lanes.encode(np.eye(64, 96, dtype=np.uint8), 1)
        >>> coded.states.shape, coded.frequencies, coded.nbytes
        ((64, 1), array([4051,   45], dtype=uint16), 646)
    """
    lead, pieces, length = divide(labels.shape)
    counts = bincount(labels.ravel(), entries + 1)
    frequencies = symbol_models.frequencies(symbol_models.quantize(counts)[None])
    groups = labels.shape[0] if labels.ndim > 2 else 1
    cube = labels.reshape(groups, -1, length)
    coded = [_encode_group(own, rans.models(frequencies)) for own in cube]
    rows = *labels.shape[:lead], pieces
    most = max(max(own.words.size for own in coded), 1)
    words = np.zeros((groups, most), np.uint16)
    for row, own in zip(words, coded, strict=True):
        row[: own.words.size] = own.words
    sizes = np.stack([own.sizes for own in coded])
    return Lanes(
        words if labels.ndim > 2 else words[0],
        np.stack([own.states for own in coded]).astype(np.uint32).reshape(rows),
        (np.cumsum(sizes, axis=1) - sizes).astype(np.int32).reshape(rows),
        sizes.astype(np.uint16).reshape(rows),
        frequencies[0].astype(np.uint16),
    )


def _encode_group(
    labels: NDArray[np.unsignedinteger], models: rans.Models
) -> rans.Emitted:
    """Codes labels [lanes, length]; the words of all lanes follow one another."""
    given: list[rans.Emitted] = []
    for first in range(0, len(labels), _SIDE_BY_SIDE):
        own = labels[first : first + _SIDE_BY_SIDE]
        symbols = np.ascontiguousarray(own.T).ravel()
        one = np.broadcast_to(np.uint8(0), symbols.size)
        given.append(put_on_cpu([rans.Segment(symbols, models, one)], len(own)))
    return rans.Emitted(*map(np.concatenate, zip(*given, strict=True)))
