"""Interleaved rANS streams, written: `rans` says what is in them.

A lane is coded from its last symbol to its first, and gives off words on the way. The
loop that does so takes the time: it is an argument of `encode`, `put` in NumPy or one
that is compiled.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.streams import lane_index, rans_loops
from deepcomp_jax.streams.rans_loops import LOW, PRECISION
from deepcomp_jax.streams.rans_models import Models, estimate

_LANE_BITS = 16  # what one more lane adds to a stream, roughly
_LANE_SHARE = 0.002  # of the bits of a stream that lanes may add
_MAX_LANES = 4096
_FEW_LANES = 24  # fewer are faster one after the other than side by side
_BLOCK = 1 << 16  # symbols that are counted together


class Segment(NamedTuple):
    """Symbols to be coded.

    Attributes:
        symbols: uint[n].
        models: Models of one alphabet.
        chosen: Which of the models each symbol has, uint[n].
        counts: How often each symbol occurs with each model, int[models, alphabet];
            None: nobody has counted yet.
    """

    symbols: NDArray[np.unsignedinteger]
    models: Models
    chosen: NDArray[np.unsignedinteger]
    counts: NDArray[np.integer] | None = None


class Emitted(NamedTuple):
    """What the lanes have made of all symbols.

    Attributes:
        states: State of each lane, uint32[L].
        sizes: Number of words of each, int64[L].
        words: Those of lane 0, of lane 1, and so on, as they are decoded; uint16[w].
    """

    states: NDArray[np.uint32]
    sizes: NDArray[np.int64]
    words: NDArray[np.uint16]


# Codes segments in so many lanes.
Put: TypeAlias = Callable[[Sequence[Segment], int], Emitted]


def put(segments: Sequence[Segment], lanes: int) -> Emitted:
    """Codes segments, the last one first: the loop in NumPy.

    Args:
        segments: In the order in which they are decoded.
        lanes: Number of lanes, at least one.
    """
    states = np.zeros(lanes, np.float64)
    words: list[NDArray[np.uint16]] = []
    given: list[NDArray[np.bool_]] = []
    for segment in reversed(segments):
        rows, full = _put_segment(segment, states)
        words.append(rows)
        given.append(full)
    by_lane = np.ascontiguousarray(np.concatenate(given[::-1]).T)
    emitted = np.concatenate(words[::-1]).T[by_lane]
    return Emitted(states.astype(np.uint32), by_lane.sum(axis=1), emitted)


def _put_segment(segment: Segment, states: NDArray[np.float64]) -> rans_loops.Given:
    """Codes a segment, and moves the states on, in place.

    Returns:
        The word that each symbol gives off, uint16[steps, L], and whether it does.
    """
    alphabet = segment.models.frequencies.shape[1]

    def pairs(part: slice) -> NDArray[np.int64]:
        symbols = segment.symbols[part].astype(np.int64)
        if len(segment.models.frequencies) == 1:
            return symbols
        return segment.chosen[part].astype(np.int64) * alphabet + symbols

    table = rans_loops.costs(*segment.models)
    loop = rans_loops.put if states.size >= _FEW_LANES else rans_loops.put_by_lane
    return loop(table, pairs, segment.symbols.size, states)


def encode(
    segments: Sequence[Segment], *, lanes: int | None = None, put: Put = put
) -> bytes:
    """Writes a stream.

    Args:
        segments: The segments, in the order in which they are decoded.
        lanes: Number of lanes; None takes one, or as many as add 0.2 % to the stream.
        put: The loop.

    Returns:
        The stream, the same for every loop.

    Examples:
        Five symbols of one model, in which 0 has three quarters of all 4096 shares, fit
        the state of the one lane, 4096:

        >>> import numpy as np
        >>> from deepcomp_jax.streams import rans
        >>> model = rans.models(np.array([[3072, 1024]]))
        >>> symbols, one = np.array([0, 1, 0, 0, 0], np.uint8), np.zeros(5, np.uint8)
        >>> data = rans.encode([rans.Segment(symbols, model, one)])
        >>> data.hex(" ")
        '00 00 10 00 00'
        >>> end, state = rans.begin(data, 0)
        >>> state, back = rans.take(state, model, one)
        >>> rans.finish(state)
        >>> end, back
        (5, array([0, 1, 0, 0, 0], dtype=uint16))
    """
    if lanes is None:
        lanes = _choose_lanes(sum(map(cost, segments)))
    states, sizes, words = put(segments, lanes)
    little = states.astype("<u4").tobytes(), words.astype("<u2").tobytes()
    return lane_index.put(sizes) + b"".join(little)


def encode_each(intervals: Sequence[tuple[int, int]]) -> bytes:
    """Writes a stream of one lane, in which every symbol is a segment.

    Args:
        intervals: Start and frequency of each symbol in its model.
    """
    x, words = 0, []
    for start, frequency in reversed(intervals):
        if x >= frequency << 32 - PRECISION:
            words.append(x & (LOW - 1))
            x >>= 16
        x = (x // frequency << PRECISION) + x % frequency + start
    emitted = np.array(words[::-1], "<u2")
    return (
        lane_index.put(np.array([emitted.size]))
        + x.to_bytes(rans_loops.STATE_BYTES, "little")
        + emitted.tobytes()
    )


def cost(segment: Segment) -> float:
    """Bits that the symbols of a segment need: the ideal length of their models."""
    if segment.counts is not None:
        return estimate(segment.counts, segment.models)
    models, alphabet = segment.models.frequencies.shape
    counts = np.zeros(models * alphabet, np.int64)
    for first in range(0, segment.symbols.size, _BLOCK):
        part = slice(first, first + _BLOCK)
        pairs = segment.symbols[part].astype(np.int64)
        if models > 1:
            pairs += segment.chosen[part].astype(np.int64) * alphabet
        counts += np.bincount(pairs, minlength=counts.size)
    return estimate(counts.reshape(-1, alphabet), segment.models)


def overhead(total: float) -> float:
    """Bits that lanes add to a stream of so many, a little less than in truth."""
    least = 8.0 * (rans_loops.STATE_BYTES + 1) - total  # a state and an index
    return max(0.9 * _LANE_BITS * _choose_lanes(total), least)


def _choose_lanes(total: float) -> int:
    return max(1, min(int(total * _LANE_SHARE / _LANE_BITS), _MAX_LANES))
