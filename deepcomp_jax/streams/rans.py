"""Interleaved rANS: many lanes of symbols, each coded by a model that may differ.

Duda, arXiv 1311.2540; interleaved as in Giesen, arXiv 1402.3392. A symbol of frequency
f, of 4096, costs log2(4096 / f) bits. Which of several models a symbol has may depend
on symbols decoded before, so a stream is decoded in segments: `begin`, then `take` for
each segment, then `finish`.

    stream = index of the lanes (`lane_index`), in words
             | u32 state of each lane | words, u16 each, lane after lane

Format notes:

- Symbol i of a segment is in lane i mod L.
- To decode with a lane in state x: s is the symbol whose interval of the model
  [c, c + f) holds x mod 4096; x becomes f * (x div 4096) + x mod 4096 - c; if that is
  below 2**16 and the lane has words left, x becomes x * 2**16 + the next one.
- After the last symbol each state is 0 and each lane's words are used up. Words are
  written from the last symbol on, and a state that begins at 0 holds nothing but
  symbols: so a short stream is hardly longer than what it says.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import lane_index, rans_loops
from deepcomp_jax.streams.rans_loops import LOW as LOW
from deepcomp_jax.streams.rans_loops import PRECISION as PRECISION
from deepcomp_jax.streams.rans_loops import STATE_BYTES
from deepcomp_jax.streams.rans_loops import TOTAL as TOTAL
from deepcomp_jax.streams.rans_models import Models as Models
from deepcomp_jax.streams.rans_models import estimate as estimate
from deepcomp_jax.streams.rans_models import find_certain as find_certain
from deepcomp_jax.streams.rans_models import models as models
from deepcomp_jax.streams.rans_models import tables as tables
from deepcomp_jax.streams.rans_writing import Emitted as Emitted
from deepcomp_jax.streams.rans_writing import Put as Put
from deepcomp_jax.streams.rans_writing import Segment as Segment
from deepcomp_jax.streams.rans_writing import cost as cost
from deepcomp_jax.streams.rans_writing import encode as encode
from deepcomp_jax.streams.rans_writing import encode_each as encode_each
from deepcomp_jax.streams.rans_writing import overhead as overhead
from deepcomp_jax.streams.rans_writing import put as put

_CLAUSES = lane_index.Clauses(
    number="E2", lanes="E3", width="E4", padding="E5", cut="E6"
)
_FEW_LANES = 24  # fewer are faster one after the other than side by side


class State(NamedTuple):
    """Where a decoder stands.

    Attributes:
        words: The words of all lanes, uint16[w].
        lanes: State of each lane, int64[L].
        here: The next word of each lane, int64[L].
        ends: Where its words end, int64[L].
        pos: Where the stream begins in the data, in bytes, for errors.
    """

    words: NDArray[np.uint16]
    lanes: NDArray[np.int64]
    here: NDArray[np.int64]
    ends: NDArray[np.int64]
    pos: int


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
    rest = (len(data) - pos) // STATE_BYTES
    first, sizes, _ = lane_index.get(data, pos, max_lanes=rest, clauses=_CLAUSES)
    words = first + STATE_BYTES * sizes.size
    end = words + 2 * int(sizes.sum())
    if end > len(data):
        raise lane_index.cut_off(data, _CLAUSES.cut)
    lanes = np.frombuffer(data, "<u4", sizes.size, first).astype(np.int64)
    if ((lanes < LOW) & (sizes > 0)).any():
        raise FormatError(
            "a state below 2**16 in front of words", offset=first, clause="E7"
        )
    ends = np.cumsum(sizes)
    stream = np.frombuffer(data, "<u2", int(ends[-1]), words)
    words_of_all = stream.astype(np.uint16)
    return end, State(words_of_all, lanes, ends - sizes, ends, pos)


def take(
    state: State,
    table: Models,
    chosen: NDArray[np.unsignedinteger],
    lookup: np.ndarray | None = None,
) -> tuple[State, np.ndarray]:
    """Decodes a segment.

    Corrupt input yields arbitrary symbols; `finish` detects it.

    Args:
        state: Where the decoder stands.
        table: The models of the segment.
        chosen: Which of them each symbol has, uint[n].
        lookup: What each symbol is decoded to, [alphabet]; None leaves them as they
            are, uint16.

    Returns:
        The state after the segment, and the symbols or what they stand for, [n].
    """
    if lookup is None:
        lookup = np.arange(table.frequencies.shape[1], dtype=np.uint16)
    certain = find_certain(table)
    if certain is not None:
        if certain.size == 1:
            return state, np.full(chosen.size, lookup[certain[0]])
        values, only = np.empty(chosen.size, lookup.dtype), lookup[certain]
        for part, _ in rans_loops.blocks(chosen.size, 1):
            only.take(chosen[part], out=values[part], mode="clip")
        return state, values
    symbols, steps = tables(table)
    steps = steps.astype(np.int64)
    slots = rans_loops.Slots(steps >> PRECISION, steps & (TOTAL - 1), lookup[symbols])
    lanes, here = state.lanes.copy(), state.here.copy()
    words = rans_loops.Words(state.words, here, state.ends)
    is_few = lanes.size < _FEW_LANES
    loop = rans_loops.take_by_lane if is_few else rans_loops.take
    values = loop(words, slots, lanes, chosen)
    return state._replace(lanes=lanes, here=here), values


def take_each(
    state: State, find: Callable[[int], tuple[int, int]], count: int
) -> State:
    """Decodes symbols each of which is a segment, and so in the first lane.

    Args:
        state: Where the decoder stands.
        find: Start and frequency of the next symbol, from the remainder of the state.
            Called once for each symbol, so that it can learn from what it returns.
        count: Number of symbols.

    Returns:
        The state after them.
    """
    lanes, here = state.lanes.copy(), state.here.copy()
    x, words = int(lanes[0]), iter(state.words[here[0] : state.ends[0]].tolist())
    for _ in range(count):
        high, rest = divmod(x, TOTAL)
        start, frequency = find(rest)
        x = frequency * high + rest - start
        if x < LOW and (word := next(words, None)) is not None:
            x = x << 16 | word
            here[0] += 1
    lanes[0] = x
    return state._replace(lanes=lanes, here=here)


def finish(state: State) -> None:
    """Rejects a stream that does not end where its symbols do.

    Raises:
        FormatError: names the stream.
    """
    if state.lanes.any() or (state.here != state.ends).any():
        raise FormatError(
            "the lanes do not end where their symbols do",
            offset=state.pos,
            clause="E8",
        )
