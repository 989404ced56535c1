"""The loops of interleaved rANS, in NumPy: a symbol of every lane at each step.

A call of NumPy takes about as long as its work on a thousand numbers. So there are few
calls in a step, into buffers that are there already, on numbers of the width that
NumPy computes fastest with, and constants are arrays: a Python number is converted
each time.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PRECISION = 12  # bits of a frequency; a table of this size fits the fastest cache
TOTAL = 1 << PRECISION
LOW = 1 << 16  # least state of a lane that has words left
STATE_BYTES = 4  # of a lane, in a stream

_BLOCK = 1 << 16  # symbols looked up together: what is known of them fits a cache


def blocks(size: int, lanes: int) -> Iterator[tuple[slice, int]]:
    """Cuts symbols into blocks of whole steps, and one of those that are left over.

    Yields:
        Which symbols, and how many lanes have one in each step.
    """
    left = size % lanes
    block = max(1, _BLOCK // lanes) * lanes
    for first in range(0, size - left, block):
        yield slice(first, min(first + block, size - left)), lanes
    if left:
        yield slice(size - left, size), left


# ---- reading ------------------------------------------------------------------------


class Slots(NamedTuple):
    """What each of the 4096 remainders stands for under each model.

    Attributes:
        frequencies: The frequency of the symbol, int64[models * 4096].
        rests: The remainder less the start of the symbol, int64[models * 4096].
        values: What the symbol is decoded to, any dtype[models * 4096].
    """

    frequencies: NDArray[np.int64]
    rests: NDArray[np.int64]
    values: np.ndarray


class Words(NamedTuple):
    """The words of a stream.

    Attributes:
        words: The words of all lanes, uint16[w].
        here: The next one of each lane, int64[L]; moves on.
        ends: Where they end, int64[L].
    """

    words: NDArray[np.uint16]
    here: NDArray[np.int64]
    ends: NDArray[np.int64]


def take(
    words: Words,
    slots: Slots,
    lanes: NDArray[np.int64],
    chosen: NDArray[np.unsignedinteger],
) -> np.ndarray:
    """Decodes symbols, and moves the lanes on, in place.

    Args:
        words: The words of the lanes.
        slots: The slots of the models.
        lanes: State of each lane, int64[L].
        chosen: Model of each symbol, uint[n]; is not looked at if there is one model.

    Returns:
        What the symbols stand for, [n].
    """
    out = np.empty(chosen.size, slots.values.dtype)
    for part, width in blocks(chosen.size, lanes.size):
        at = np.empty(part.stop - part.start, np.int64).reshape(-1, width)
        base = None
        if slots.rests.size > TOTAL:
            base = (chosen[part].astype(np.int64) << PRECISION).reshape(-1, width)
        these = Words(words.words, words.here[:width], words.ends[:width])
        _take(these, slots, lanes[:width], (at, base))
        slots.values.take(at.ravel(), out=out[part], mode="clip")
    return out


def _take(
    words: Words,
    slots: Slots,
    lanes: NDArray[np.int64],
    block: tuple[NDArray[np.int64], NDArray[np.int64] | None],
) -> None:
    """The steps of a block.

    Args:
        words: The words of the lanes.
        slots: The slots of the models.
        lanes: State of each lane that has a symbol in each step; moves on.
        block: Where the slots of the symbols go, int64[steps, L]; and where those of
            their models begin, int64[steps, L], None if there is one model.
    """
    places, base = block
    numbers = TOTAL - 1, PRECISION, LOW, 16, 1
    mask, shift, low, wide, one = np.repeat(numbers, lanes.size).reshape(5, -1)
    frequency, rest = np.empty_like(lanes), np.empty_like(lanes)
    is_low = np.empty(lanes.size, bool)
    last = bool((words.ends - words.here).min() < len(places))  # some may run out
    for step, slot in enumerate(places):
        np.bitwise_and(lanes, mask, out=slot)
        if base is not None:
            np.add(slot, base[step], out=slot)
        slots.frequencies.take(slot, out=frequency, mode="clip")
        slots.rests.take(slot, out=rest, mode="clip")
        np.right_shift(lanes, shift, out=lanes)
        np.multiply(lanes, frequency, out=lanes)
        np.add(lanes, rest, out=lanes)
        np.less(lanes, low, out=is_low)
        if last:
            np.logical_and(is_low, words.here < words.ends, out=is_low)
        few = is_low.nonzero()[0]
        at = words.here.take(few)
        state = np.left_shift(lanes.take(few), wide[: few.size])
        lanes[few] = np.bitwise_or(state, words.words.take(at), out=state)
        words.here[few] = np.add(at, one[: few.size], out=at)


def take_by_lane(
    words: Words,
    slots: Slots,
    lanes: NDArray[np.int64],
    chosen: NDArray[np.unsignedinteger],
) -> np.ndarray:
    """The same as `take`, lane after lane in Python: faster for few lanes."""
    frequencies, rests = slots.frequencies.tolist(), slots.rests.tolist()
    out = np.empty(chosen.size, slots.values.dtype)
    for part, width in blocks(chosen.size, lanes.size):
        models, places = chosen[part], np.empty(part.stop - part.start, np.int64)
        for lane in range(width):
            of_lane = models[lane::width].tolist()
            first, end = int(words.here[lane]), int(words.ends[lane])
            # A symbol takes one word at most.
            left = words.words[first : min(end, first + len(of_lane))].tolist()
            x, taken, visited = int(lanes[lane]), 0, []
            for model in of_lane:
                slot = (model << PRECISION) + (x & (TOTAL - 1))
                x = frequencies[slot] * (x >> PRECISION) + rests[slot]
                if x < LOW and taken < len(left):
                    x, taken = x << 16 | left[taken], taken + 1
                visited.append(slot)
            lanes[lane] = x
            words.here[lane] += taken
            places[lane::width] = visited
        slots.values.take(places, out=out[part], mode="clip")
    return out


# ---- writing ------------------------------------------------------------------------


class Costs(NamedTuple):
    """What coding a symbol does to a state x, for each symbol of each model.

    Numbers below 2**53 are exact as float64, and dividing is far faster for them than
    for integers. With f the frequency of a symbol and c its start,

        x = f q + r,  q = floor(x / f)   becomes   4096 q + r + c = x + (4096 - f) q + c

    Attributes:
        limits: A state as large gives off a word first: f * 2**20.
        inverses: 1 / f.
        gains: 4096 - f.
        starts: c.
    """

    limits: NDArray[np.float64]
    inverses: NDArray[np.float64]
    gains: NDArray[np.float64]
    starts: NDArray[np.float64]


def costs(frequencies: NDArray[np.uint32], starts: NDArray[np.uint32]) -> Costs:
    """The table for models, uint32[models, alphabet]."""
    f = frequencies.ravel().astype(np.float64)
    return Costs(
        f * (1 << 32 - PRECISION),
        1 / np.maximum(f, 1),
        TOTAL - f,
        starts.ravel().astype(np.float64),
    )


Pairs = Callable[[slice], NDArray[np.int64]]  # places in such a table, of some symbols
Given = tuple[NDArray[np.uint16], NDArray[np.bool_]]  # words of each step, if any


def put(table: Costs, pairs: Pairs, size: int, lanes: NDArray[np.float64]) -> Given:
    """Codes symbols, the last one first, and moves the lanes on, in place.

    Args:
        table: The costs of the symbols of the models.
        pairs: Where the costs of a symbol under its model are in the table.
        size: Number of symbols.
        lanes: State of each lane, float64[L].

    Returns:
        The word that each symbol gives off, uint16[steps, L], and whether it does.
    """
    steps = -(-size // lanes.size)
    words = np.empty((steps, lanes.size), np.uint16)
    full = np.zeros((steps, lanes.size), np.bool_)
    for part, width in reversed(list(blocks(size, lanes.size))):
        first = part.start // lanes.size
        rows = slice(first, first + (part.stop - part.start) // width)
        at = pairs(part)
        block = Costs(*(column.take(at).reshape(-1, width) for column in table))
        _put(block, lanes[:width], words[rows, :width], full[rows, :width])
    return words, full


def _put(
    block: Costs,
    lanes: NDArray[np.float64],
    words: NDArray[np.uint16],
    full: NDArray[np.bool_],
) -> None:
    """The steps of a block, last one first; all have as many lanes."""
    half = np.full(lanes.size, 0.5)
    quotient = np.empty_like(lanes)
    for step in range(len(words) - 1, -1, -1):
        np.greater_equal(lanes, block.limits[step], out=full[step])
        few = full[step].nonzero()[0]
        large = lanes.take(few)
        high = np.floor(large * (1 / LOW))
        words[step, few] = large - high * LOW
        lanes[few] = high
        # Half a unit more: rounding cannot lead below a whole quotient.
        np.add(lanes, half, out=quotient)
        np.multiply(quotient, block.inverses[step], out=quotient)
        np.floor(quotient, out=quotient)
        np.multiply(quotient, block.gains[step], out=quotient)
        np.add(lanes, quotient, out=lanes)
        np.add(lanes, block.starts[step], out=lanes)


def put_by_lane(
    table: Costs, pairs: Pairs, size: int, lanes: NDArray[np.float64]
) -> Given:
    """The same as `put`, lane after lane: faster for few lanes."""
    steps = -(-size // lanes.size)
    words = np.empty((steps, lanes.size), np.uint16)
    full = np.zeros((steps, lanes.size), np.bool_)
    limits, _, gains, starts = (column.astype(np.int64).tolist() for column in table)
    at = pairs(slice(0, size))
    for lane, state in enumerate(lanes.tolist()):
        x = int(state)
        pairs_of_lane = at[lane :: lanes.size].tolist()
        for step, pair in reversed(list(enumerate(pairs_of_lane))):
            if x >= limits[pair]:
                full[step, lane], words[step, lane] = True, x & (LOW - 1)
                x >>= 16
            x += x // (TOTAL - gains[pair]) * gains[pair] + starts[pair]
        lanes[lane] = x
    return words, full
