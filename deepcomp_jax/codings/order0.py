"""The order0 coding: the label of every weight by rANS, all with one model.

    body = frequencies | rANS stream of one segment, the labels

Format notes:

- Frequencies: 6 bits for each label from 0 to the number of entries.
"""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import common, symbol_models
from deepcomp_jax.codings.common import Leaf, Loops, Measured
from deepcomp_jax.streams import rans

MAX_ENTRIES = symbol_models.MAX_SYMBOLS - 1  # a label is an entry or zero


def applies(leaf: Leaf) -> bool:
    """Whether this coding can hold a leaf."""
    return leaf.entries <= MAX_ENTRIES


def estimate(labels: NDArray[np.unsignedinteger], leaf: Leaf) -> float:
    """Bits that a body has, roughly."""
    counts = common.counts(labels, leaf)[None]
    table = rans.models(symbol_models.frequencies(symbol_models.quantise(counts)))
    words = rans.estimate(counts, table)
    return words + rans.overhead(words) + symbol_models.CODE_BITS * counts.size


def encode(labels: NDArray[np.unsignedinteger], leaf: Leaf) -> bytes:
    """Writes labels, uint[size]."""
    codes = symbol_models.quantise(common.counts(labels, leaf))
    table = rans.models(symbol_models.frequencies(codes[None]))
    one = np.broadcast_to(np.uint8(0), labels.size)
    return symbol_models.put(codes) + rans.encode([rans.Segment(labels, table, one)])


def decode(
    data: bytes,
    leaf: Leaf,
    palette: np.ndarray | None = None,
    loops: Loops = common.HOST,
) -> np.ndarray:
    """Reads labels.

    Args:
        data: The body.
        leaf: What the labels belong to.
        palette: What each label is decoded to, [entries + 1]; None for labels.
        loops: What decodes streams.

    Returns:
        Labels, uint[size], or what they stand for.

    Raises:
        FormatError: L1 to L3, L17, L21, or a clause of the stream (E); the offset is
            that in the body.
    """
    start, table = get_model(data, leaf)
    end, state = rans.begin(data, start)
    check_states(state, table, start)
    one = np.broadcast_to(np.uint8(0), leaf.size)
    state, labels = loops.take(state, table, one, common.colours(leaf, palette))
    rans.finish(state)
    common.check_end(data, end)
    return labels


def get_model(data: bytes, leaf: Leaf) -> tuple[int, rans.Models]:
    """Where the stream of a body begins, and its model.

    Raises:
        FormatError: L1 to L3, L17.
    """
    common.check_entries(leaf, MAX_ENTRIES)
    start, codes = symbol_models.get(data, 0, leaf.entries + 1)
    return start, rans.models(symbol_models.frequencies(codes[None]))


def check_states(state: rans.State, table: rans.Models, pos: int) -> None:
    """Rejects a stream that says nothing, though its table has several labels.

    Args:
        state: Where the decoder begins.
        table: The model.
        pos: Where the stream begins.

    Raises:
        FormatError: L21.
    """
    if rans.find_certain(table) is None and not state.lanes.any():
        raise FormatError(
            "all states are 0, so that all labels are one", offset=pos, clause="L21"
        )


def measure(data: bytes, leaf: Leaf) -> Measured:
    """What the bits of a valid body are spent on."""
    labels = decode(data, leaf)
    start, codes = symbol_models.get(data, 0, leaf.entries + 1)
    _, state = rans.begin(data, start)
    table = rans.models(symbol_models.frequencies(codes[None]))
    words = 16 * int(state.ends[-1])
    tables = symbol_models.CODE_BITS * codes.size
    return Measured(
        indices=words,
        tables=tables,
        lanes=8 * (len(data) - start) - words,
        padding=-tables % 8,
        ideal=rans.estimate(common.counts(labels, leaf)[None], table),
    )
