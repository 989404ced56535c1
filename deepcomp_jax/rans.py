"""Interleaved rANS: many symbols, each with a model of its own, in many lanes.

Duda, arXiv 1311.2540; interleaved as in Giesen, arXiv 1402.3392. A symbol of frequency
f, of 4096, costs log2(4096 / f) bits. Which of several models a symbol has may depend
on symbols decoded before, so a stream is decoded in segments: `begin`, then `take` for
each segment, then `finish`.

    stream = varint L, varint base, and if L > 1: u8 w, then L numbers of w bits
             | u32 state of each lane | words, u16 each, lane after lane

Format notes:

- Symbol i of a segment is in lane i mod L, whose words are base + (its number).
- A lane's state x is in 2**16 .. 2**32 - 1. To decode: s is the symbol whose interval
  of the model [c, c + f) holds x mod 4096; x becomes f * (x div 4096) + x mod 4096 - c;
  if that is below 2**16, x becomes x * 2**16 + the lane's next word.
- After the last symbol each state is 2**16 and each lane's words are used up.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import _index
from deepcomp_jax._errors import FormatError

PRECISION = 12  # bits of a frequency; a table of this size fits the fastest cache
TOTAL = 1 << PRECISION

_LOW = 1 << 16  # least state; also that after the last symbol
_STATE_BYTES = 4
_CLAUSES = _index.Clauses(number="E2", lanes="E3", width="E4", padding="E5", cut="E6")
_LANE_BITS = 40  # what one more lane adds to a stream, roughly
_LANE_SHARE = 0.003  # of the bits of a stream that lanes may add
_MAX_LANES = 4096
_FEW_LANES = 24  # fewer are faster one after the other than side by side


class Models(NamedTuple):
    """What is expected of symbols: one row for each model.

    Attributes:
        frequencies: Of each symbol, 4096 in all; uint32[models, alphabet].
        starts: Sums of the frequencies before; uint32[models, alphabet].
    """

    frequencies: NDArray[np.uint32]
    starts: NDArray[np.uint32]


class Segment(NamedTuple):
    """Symbols to be coded.

    Attributes:
        symbols: uint[n].
        models: Models of one alphabet.
        chosen: Which of the models each symbol has, uint[n].
    """

    symbols: NDArray[np.unsignedinteger]
    models: Models
    chosen: NDArray[np.unsignedinteger]


class State(NamedTuple):
    """Where a decoder stands.

    Attributes:
        words: Of all lanes, uint16[w], and one more that no valid stream reads.
        lanes: State of each lane, uint64[L].
        here: The next word of each lane, int64[L].
        ends: Where its words end, int64[L].
        pos: Where the stream begins in the data, in bytes, for errors.
    """

    words: NDArray[np.uint16]
    lanes: NDArray[np.uint64]
    here: NDArray[np.int64]
    ends: NDArray[np.int64]
    pos: int


def models(frequencies: NDArray[np.integer]) -> Models:
    """Models from frequencies, int[models, alphabet], each row 4096 in all."""
    table = frequencies.astype(np.uint32)
    starts = np.cumsum(table, axis=1, dtype=np.uint32) - table
    return Models(table, starts)


def estimate(counts: NDArray[np.integer], table: Models) -> float:
    """Bits that symbols need: the ideal code length of their models.

    Args:
        counts: How often each symbol occurs with each model, int[models, alphabet].
        table: The models.
    """
    sizes = np.log2(np.maximum(table.frequencies, 1), dtype=np.float64)
    return float((counts * (PRECISION - sizes)).sum())


# ---- writing ------------------------------------------------------------------------


def encode(segments: Sequence[Segment], *, lanes: int | None = None) -> bytes:
    """Writes a stream.

    Args:
        segments: In the order in which they are to be decoded.
        lanes: Their number; None takes one, or as many as add 0.3 % to the stream.

    Returns:
        The stream.
    """
    if lanes is None:
        lanes = _choose_lanes(sum(map(cost, segments)))
    states = np.full(lanes, _LOW, np.uint64)
    blocks: list[NDArray[np.int32]] = []
    for segment in reversed(segments):
        states, rows = _put_segment(segment, states)
        blocks.append(rows)
    emitted = np.concatenate(blocks[::-1]).T
    sizes = (emitted >= 0).sum(axis=1)
    words = emitted[emitted >= 0].astype("<u2")
    return _index.put(sizes) + states.astype("<u4").tobytes() + words.tobytes()


def cost(segment: Segment) -> float:
    """Bits that the symbols of a segment need: the ideal length of their models."""
    alphabet = segment.models.frequencies.shape[1]
    pairs = segment.chosen.astype(np.int64) * alphabet + segment.symbols
    counts = np.bincount(pairs, minlength=segment.models.frequencies.size)
    return estimate(counts.reshape(-1, alphabet), segment.models)


def _choose_lanes(total: float) -> int:
    fair = int(total * _LANE_SHARE / _LANE_BITS)
    return 1 << min(fair, _MAX_LANES).bit_length() - 1 if fair > 1 else 1


def _put_segment(
    segment: Segment, states: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Codes a segment, last symbol first; returns the words of each step, or -1."""
    where = segment.chosen, segment.symbols
    # A symbol that is certain changes no state: so are the places left over filled.
    frequencies = _rows(segment.models.frequencies[where], states.size, TOTAL)
    starts = _rows(segment.models.starts[where], states.size, 0)
    emitted = np.full(frequencies.shape, -1, np.int32)
    if states.size < _FEW_LANES:
        return _put_lane_by_lane(frequencies, starts, states, emitted), emitted
    states = states.copy()
    for step in range(len(frequencies) - 1, -1, -1):
        f = frequencies[step]
        full = states >= f << np.uint64(32 - PRECISION)
        np.copyto(
            emitted[step], states & np.uint64(0xFFFF), where=full, casting="unsafe"
        )
        states >>= np.where(full, np.uint64(16), np.uint64(0))
        high, low = np.divmod(states, f)
        states = (high << np.uint64(PRECISION)) + low + starts[step]
    return states, emitted


def _put_lane_by_lane(
    frequencies: NDArray[np.uint64],
    starts: NDArray[np.uint64],
    states: NDArray[np.uint64],
    emitted: NDArray[np.int32],
) -> NDArray[np.uint64]:
    """The loop of `_put_segment` for few lanes; fills `emitted`."""
    after: list[int] = []
    for lane, x in enumerate(states.tolist()):
        words = emitted[:, lane]
        pairs = zip(
            frequencies[::-1, lane].tolist(), starts[::-1, lane].tolist(), strict=True
        )
        for step, (f, start) in enumerate(pairs, 1):
            if x >= f << (32 - PRECISION):
                words[-step] = x & 0xFFFF
                x >>= 16
            x = (x // f << PRECISION) + x % f + start
        after.append(x)
    return np.array(after, np.uint64)


def _rows(items: NDArray[np.uint32], lanes: int, fill: int) -> NDArray[np.uint64]:
    """Items as [steps, lanes], in the width of the states, padded with `fill`."""
    missing = -items.size % lanes
    padded = np.append(items, np.full(missing, fill, np.uint32))
    return padded.astype(np.uint64).reshape(-1, lanes)


# ---- reading ------------------------------------------------------------------------


def begin(data: bytes, pos: int) -> tuple[int, State]:
    """Reads the lanes of a stream.

    Args:
        data: The bytes read from.
        pos: Where the stream begins, in bytes.

    Returns:
        The position after the stream, and the state of a decoder of it.

    Raises:
        FormatError: if the lanes break a clause, with the clause and the offset.
    """
    rest = (len(data) - pos) // _STATE_BYTES
    first, sizes, _ = _index.get(data, pos, max_lanes=rest, clauses=_CLAUSES)
    words = first + _STATE_BYTES * sizes.size
    end = words + 2 * int(sizes.sum())
    if end > len(data):
        raise _index.cut_off(data, _CLAUSES.cut)
    lanes = np.frombuffer(data, "<u4", sizes.size, first).astype(np.uint64)
    if lanes.min() < _LOW:
        raise FormatError("a state is below 2**16", offset=first, clause="E7")
    ends = np.cumsum(sizes)
    stream = np.frombuffer(data, "<u2", int(ends[-1]), words)
    padded = np.append(stream.astype(np.uint16), np.uint16(0))
    return end, State(padded, lanes, ends - sizes, ends, pos)


def take(
    state: State, table: Models, chosen: NDArray[np.unsignedinteger]
) -> tuple[State, NDArray[np.uint16]]:
    """Decodes a segment.

    A damaged stream gives some symbols or other; `finish` finds out.

    Args:
        state: Where the decoder stands.
        table: The models of the segment.
        chosen: Which of them each symbol has, uint[n].

    Returns:
        The state after the segment, and the symbols, uint16[n].
    """
    certain = table.frequencies == TOTAL
    if certain.any(axis=1).all():  # such symbols change no state
        return state, certain.argmax(axis=1)[chosen].astype(np.uint16)
    if state.lanes.size < _FEW_LANES:
        return take_slowly(state, table, chosen)
    lookup = tables(table)
    lanes, here = state.lanes.copy(), state.here.copy()
    symbols = np.empty(chosen.size, np.uint16)
    step = min(chosen.size, lanes.size)
    base = chosen.astype(np.uint64) << np.uint64(PRECISION)
    for first in range(0, chosen.size, lanes.size):
        part = slice(first, first + step)
        width = base[part].size
        symbols[part] = _step(
            state.words, lookup, lanes[:width], here[:width], base[part]
        )
    return state._replace(lanes=lanes, here=here), symbols


def take_slowly(
    state: State, table: Models, chosen: NDArray[np.unsignedinteger]
) -> tuple[State, NDArray[np.uint16]]:
    """The same as `take`, lane after lane and symbol after symbol: its oracle."""
    symbols_of, steps = (array.tolist() for array in tables(table))
    words, count = state.words.tolist(), state.words.size
    models = chosen.tolist()
    lanes, here = state.lanes.tolist(), state.here.tolist()
    symbols = [0] * chosen.size
    for lane in range(state.lanes.size):
        x, at = lanes[lane], here[lane]
        for i in range(lane, chosen.size, state.lanes.size):
            slot = (models[i] << PRECISION) + (x & (TOTAL - 1))
            step = steps[slot]
            x = (step >> PRECISION) * (x >> PRECISION) + (step & (TOTAL - 1))
            if x < _LOW:
                x = x << 16 | (words[at] if at < count else 0)
                at += 1
            symbols[i] = symbols_of[slot]
        lanes[lane], here[lane] = x, at
    after = state._replace(
        lanes=np.array(lanes, np.uint64), here=np.array(here, np.int64)
    )
    return after, np.array(symbols, np.uint16)


def finish(state: State) -> None:
    """Rejects a stream that does not end where its symbols do.

    Raises:
        FormatError: names the stream.
    """
    if (state.lanes != _LOW).any() or (state.here != state.ends).any():
        raise FormatError(
            "the lanes do not end where their symbols do",
            offset=state.pos,
            clause="E8",
        )


def tables(table: Models) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
    """What each of the 4096 remainders stands for under each model.

    Returns:
        The symbols, uint16[models * 4096], and frequency * 4096 + (remainder - start),
        uint64[models * 4096].
    """
    count, alphabet = table.frequencies.shape
    flat = table.frequencies.ravel()
    symbols = np.tile(np.arange(alphabet, dtype=np.uint16), count).repeat(flat)
    starts = table.starts.ravel().repeat(flat).astype(np.uint64)
    remainders = np.tile(np.arange(TOTAL, dtype=np.uint64), count)
    steps = flat.repeat(flat).astype(np.uint64) << np.uint64(PRECISION)
    return symbols, steps + remainders - starts


def _step(
    words: NDArray[np.uint16],
    lookup: tuple[NDArray[np.uint16], NDArray[np.uint64]],
    lanes: NDArray[np.uint64],
    here: NDArray[np.int64],
    base: NDArray[np.uint64],
) -> NDArray[np.uint16]:
    """Decodes a symbol of each lane, in place."""
    slot = (lanes & np.uint64(TOTAL - 1)) + base
    entry = lookup[1].take(slot)
    lanes >>= np.uint64(PRECISION)
    lanes *= entry >> np.uint64(PRECISION)
    lanes += entry & np.uint64(TOTAL - 1)
    low = np.flatnonzero(lanes < _LOW)
    # Lanes of a damaged stream may run beyond the words; "clip" reads the last.
    lanes[low] = lanes[low] << np.uint64(16) | words.take(here[low], mode="clip")
    here[low] += 1
    return lookup[0].take(slot)
